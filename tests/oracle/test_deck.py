"""The deck: one question for a whole batch, another one for the next, never more than fits."""

from __future__ import annotations

import itertools

import torch

from harness.oracle import draws
from harness.oracle.deck import Deck
from harness.oracle.problem import Problem
from harness.oracle.reference import Question, Reference
from harness.problems import find

problem = Problem.load(find("layer_norm"), gpu=False)
reference = Reference(problem, problem.cases[0], torch.device("cpu"))
seeds = itertools.count()


def ask() -> Question | None:
    return reference.ask(draws.MIXED, next(seeds), gradients=True)


def test_a_batch_is_asked_one_question_and_the_next_batch_another() -> None:
    deck = Deck(1 << 30)
    deck.begin("first")
    one = deck.ask("key", ask)
    assert one is not None
    deck.begin("first")
    assert deck.ask("key", ask) is one
    assert deck.ask("another key", ask) is not one
    deck.begin("second")
    other = deck.ask("key", ask)
    assert other is not None
    assert other.seed != one.seed
    assert not torch.equal(other.args[0], one.args[0])


def test_a_question_without_a_meaning_is_not_asked_again() -> None:
    deck, asked = Deck(1 << 30), []

    def meaningless() -> None:
        asked.append(1)

    assert deck.ask("key", meaningless) is None
    assert deck.ask("key", meaningless) is None
    assert len(asked) == 1


def test_what_does_not_fit_is_worked_out_anew() -> None:
    deck = Deck(100)
    one, two = deck.ask("key", ask), deck.ask("key", ask)
    assert one is not None
    assert two is not None
    assert one.seed != two.seed


def test_room_is_counted_over_all_questions() -> None:
    first = ask()
    assert first is not None
    deck = Deck(20_000)
    kept = 0
    for key in range(100):
        before = deck.ask(key, ask)
        kept += deck.ask(key, ask) is before
    assert 0 < kept < 100
    deck.clear()
    assert deck.ask(1, ask) is deck.ask(1, ask)
