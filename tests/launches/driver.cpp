// A driver with no device: it hands out handles and counts what reaches it.
#include <cstdint>
#include <cstring>

using Handle = void*;

extern "C" {

int reached = 0;
static Handle captured = nullptr;  // the only kernel of the only graph

int cuLaunchKernel(Handle, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
                   Handle, void**, void**) {
  ++reached;
  return 0;
}

int cuLibraryLoadData(Handle* library, const void* code, int*, void**, unsigned, int*, void**,
                      unsigned) {
  *library = const_cast<void*>(code);
  return 0;
}

int cuLibraryGetKernel(Handle* kernel, Handle library, const char* name) {
  *kernel = static_cast<char*>(library) + 1 + std::strlen(name);
  return 0;
}

int cuGraphInstantiateWithFlags(Handle* executable, Handle kernel, unsigned long long) {
  captured = kernel;
  *executable = &captured;
  return 0;
}

int cuGraphLaunch(Handle, Handle) {
  ++reached;
  return 0;
}

int cuGraphGetNodes(Handle, Handle* nodes, size_t* count) {
  if (nodes) nodes[0] = captured;
  *count = 1;
  return 0;
}

int cuGraphNodeGetType(Handle, int* type) {
  *type = 0;
  return 0;
}

int cuGraphKernelNodeGetParams_v2(Handle node, Handle* parameters) {
  parameters[0] = node;
  return 0;
}

int cuGetProcAddress_v2(const char* name, void** function, int, uint64_t, int*) {
  *function = nullptr;
  if (!std::strcmp(name, "cuLaunchKernel")) *function = reinterpret_cast<void*>(cuLaunchKernel);
  return *function ? 0 : 500;
}
}
