"""Building extensions: what is to be built, the box it is built in, and where it is kept."""

from harness.build import diagnostics
from harness.build.artifacts import Artifact, ArtifactStore
from harness.build.builder import Builder, BuildFailure
from harness.build.spec import ExtensionSpec

__all__ = [
    "Artifact",
    "ArtifactStore",
    "BuildFailure",
    "Builder",
    "ExtensionSpec",
    "diagnostics",
]
