"""How fast Hopper's wgmma multiplies halves, by where its operands lie in shared memory.

    python benchmarks/wgmma_forms.py OUT

Two warpgroups of every multiprocessor multiply zeros for some milliseconds, form by form, in groups
of four, at most two in flight. Writes ``wgmma_forms.json``: clocks of each product, and those at
the tensor cores' peak (4096 operations a clock and multiprocessor). Needs nvcc and a Hopper GPU.

Does not: move anything while it multiplies, or heat the GPU as real numbers do.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from spine import record_of  # noqa: E402

from harness.devices import choose  # noqa: E402


@dataclass(frozen=True)
class Operand:
    """First unit of 16 bytes, and units from core matrix to core matrix; none: in registers."""

    first: int = 0
    along_depth: int = 0
    across: int = 0
    registers: bool = False
    transposed: bool = False


REGISTERS = Operand(registers=True)
FORMS: dict[str, tuple[int, Operand, Operand]] = {
    "patch, aligned": (256, Operand(0, 128, 8), Operand(0, 512, 16)),
    "patch, any start": (256, Operand(0, 128, 8), Operand(1, 505, 14)),
    "half a patch, any start": (128, Operand(0, 128, 8), Operand(1, 505, 14)),
    "7 taps": (56, REGISTERS, Operand(0, 8, 1, transposed=True)),
    "7 taps, any start": (56, REGISTERS, Operand(1, 8, 1, transposed=True)),
    "9 taps": (72, REGISTERS, Operand(0, 8, 1, transposed=True)),
    "8 blocks": (64, REGISTERS, Operand(1, 8, 190, transposed=True)),
    "16 blocks": (128, REGISTERS, Operand(0, 8, 129, transposed=True)),
    "7 taps, both in shared memory": (
        56,
        Operand(0, 8, 128, transposed=True),
        Operand(0, 8, 1, transposed=True),
    ),
    "channels by filters": (
        128,
        Operand(1, 8, 190, transposed=True),
        Operand(0, 8, 136, transposed=True),
    ),
}
ROUNDS = 2000
KERNEL = """
__global__ void __launch_bounds__(256, 1) form_{i}(float* out, long long* clocks) {{
  extern __shared__ __align__(128) char shared[];
  for (int j = threadIdx.x; j < 50 * 1024; j += 256) reinterpret_cast<int*>(shared)[j] = 0;
  __syncthreads();
  const uint32_t base = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  float sums[{count}] = {{}};
  const uint32_t own = base + threadIdx.x / 128 * 1024;
  const uint64_t a = operand(own, {a.first}, {a.along_depth}, {a.across});
  const uint64_t b = operand(base + 65536, {b.first}, {b.along_depth}, {b.across});
  const uint32_t zero = clocks == nullptr;
  const long long begin = clock64();
  for (int round = 0; round < {rounds}; ++round) {{
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#pragma unroll
    for (int j = 0; j < 4; ++j) {{
      asm volatile("wgmma.mma_async.sync.aligned.m64n{columns}k16.f32.f16.f16 "
                   "{operands};" : {sums} : {inputs});
    }}
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
    asm volatile("wgmma.wait_group.sync.aligned 1;" ::: "memory");
  }}
  asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
  float sum = 0;
  for (int j = 0; j < {count}; ++j) {{
    asm volatile("" : "+f"(sums[j])::"memory");
    sum += sums[j];
  }}
  __syncthreads();
  out[blockIdx.x * 256 + threadIdx.x] = sum;
  if (threadIdx.x == 0 && blockIdx.x == 0) *clocks = clock64() - begin;
}}
"""
HEAD = """
#include <cstdint>
#include <cstdio>

__device__ uint64_t operand(uint32_t base, int first, int along_depth, int across) {
  return uint64_t(((base + first * 16) & 0x3ffff) >> 4) | uint64_t(along_depth) << 16 |
      uint64_t(across) << 32;
}
"""
RUN = """
  cudaFuncSetAttribute(form_{i}, cudaFuncAttributeMaxDynamicSharedMemorySize, 200 * 1024);
  for (int i = 0; i < 2; ++i) form_{i}<<<blocks, 256, 200 * 1024>>>(out, clocks);
  cudaMemcpy(&found, clocks, 8, cudaMemcpyDeviceToHost);
  std::printf("%lld %s\\n", found, cudaGetErrorString(cudaGetLastError()));
"""


def kernel(i: int, columns: int, a: Operand, b: Operand) -> str:
    """The text of one form's kernel."""
    count = columns // 2
    into, first = braced(range(count)), count
    if a.registers:
        left, flags = braced([first] * 4), "1, 1, 1"
        inputs = '"r"(zero), "l"(b)'
    else:
        left, flags = f"%{first}", f"1, 1, 1, {int(a.transposed)}"
        inputs = '"l"(a), "l"(b)'
    return KERNEL.format(
        i=i,
        columns=columns,
        count=count,
        a=a,
        b=b,
        rounds=ROUNDS,
        operands=f"{into}, {left}, %{first + 1}, {flags}, {int(b.transposed)}",
        sums=", ".join(f'"+f"(sums[{j}])' for j in range(count)),
        inputs=inputs,
    )


def braced(numbers: Iterable[int]) -> str:
    """Operands of an asm statement as one vector."""
    return "{" + ", ".join(f"%{j}" for j in numbers) + "}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    asked = parser.parse_args()
    kernels = [kernel(i, *form) for i, form in enumerate(FORMS.values())]
    runs = [RUN.replace("{i}", str(i)) for i in range(len(FORMS))]
    text = "".join(
        [
            HEAD,
            *kernels,
            "int main() {\n  float* out;\n  long long *clocks, found;\n  int blocks;\n",
            "  cudaDeviceGetAttribute(&blocks, cudaDevAttrMultiProcessorCount, 0);\n",
            "  cudaMalloc(&out, blocks * 1024);\n  cudaMalloc(&clocks, 8);\n",
            *runs,
            "}\n",
        ]
    )
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder) / "forms.cu", Path(folder) / "forms"
        source.write_text(text)
        architecture = "-gencode=arch=compute_90a,code=sm_90a"
        subprocess.run(["nvcc", "-std=c++17", architecture, "-o", program, source], check=True)
        said = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    lines = said.splitlines()
    if any(not re.fullmatch(r"\d+ no error", line) for line in lines):
        raise SystemExit(said)
    rows = [
        {
            "form": name,
            "columns": columns,
            "left_from": "registers" if a.registers else "shared memory",
            "clocks": round(int(line.split()[0]) / (ROUNDS * 4 * 2), 2),
            "clocks_at_peak": columns / 2,
        }
        for (name, (columns, a, _)), line in zip(FORMS.items(), lines)
    ]
    record = record_of(choose("cuda")[0], "wgmma_forms.py OUT", {"rows": rows})
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "wgmma_forms.json").write_text(json.dumps(record, indent=1) + "\n")
    for row in rows:
        print(*row.values())


if __name__ == "__main__":
    main()
