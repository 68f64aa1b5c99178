#include "fiber.h"

#include <sys/mman.h>

#include <new>

#if !defined(__x86_64__) || !defined(__linux__)
#error "The emulated device switches stacks in x86-64 assembly for Linux; other machines lack it."
#endif

// Callee-saved registers only: for everything else this is an ordinary function call.
asm(R"(
.text
.globl kernel_harness_switch
.type kernel_harness_switch,@function
kernel_harness_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size kernel_harness_switch, .-kernel_harness_switch
)");

namespace emulated {
namespace {
constexpr size_t kPage = 4096;
constexpr int kSavedRegisters = 6;
}  // namespace

Fiber* Fiber::make() {
    void* map = mmap(nullptr, kPage + kStack, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED) throw std::bad_alloc();
    mprotect(map, kPage, PROT_NONE);
    auto* fiber = new Fiber;
    fiber->stack = static_cast<char*>(map);
    return fiber;
}

void Fiber::start(void (*entry)()) {
    auto** top = reinterpret_cast<void**>(stack + kPage + kStack);
    *--top = nullptr;  // keeps the stack aligned as after a call, and ends a backtrace
    *--top = reinterpret_cast<void*>(entry);
    for (int i = 0; i < kSavedRegisters; i++) *--top = nullptr;
    stack_pointer = top;
}

bool Fiber::overflowed(const void* address) const {
    return address >= stack && address < stack + kPage;
}

}  // namespace emulated
