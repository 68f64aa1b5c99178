// Makes the device known to PyTorch as cuda:0: memory, streams, and every operator by way of the
// CPU's own kernel on the same bytes. Has to be loaded before torch first asks for its CUDA hooks.
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/EmptyTensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

#include <cstring>
#include <vector>

#include "emulated/core.h"
#include "emulated/streams.h"
#include "launch.h"
#include "memory.h"
#include "reports.h"

namespace {

const c10::Device kDevice(c10::DeviceType::CUDA, 0);

// ---- memory ----

struct DeviceAllocator final : c10::Allocator {
    static void release(void* pointer) { emulated::release(pointer); }

    c10::DataPtr allocate(size_t bytes) override {
        void* pointer = emulated::allocate(bytes, emulated::Owner::torch);
        TORCH_CHECK_WITH(OutOfMemoryError, pointer || !bytes, "CUDA out of memory. Tried to allocate ",
                         bytes, " bytes.");
        return {pointer, pointer, &release, kDevice};
    }
    c10::DeleterFnPtr raw_deleter() const override { return &release; }
    void copy_data(void* to, const void* from, size_t bytes) const override {
        std::memcpy(to, from, bytes);
    }
};

DeviceAllocator allocator;
REGISTER_ALLOCATOR(c10::DeviceType::CUDA, &allocator);

// ---- streams ----

c10::Stream as_stream(void* handle) {
    return c10::Stream(c10::Stream::UNSAFE, kDevice, reinterpret_cast<c10::StreamId>(handle));
}

struct DeviceGuard final : c10::impl::DeviceGuardImplInterface {
    c10::DeviceType type() const override { return c10::DeviceType::CUDA; }
    c10::Device exchangeDevice(c10::Device) const override { return kDevice; }
    c10::Device getDevice() const override { return kDevice; }
    void setDevice(c10::Device device) const override {
        TORCH_CHECK(device.index() <= 0, "CUDA error: invalid device ordinal");
    }
    void uncheckedSetDevice(c10::Device) const noexcept override {}
    c10::DeviceIndex deviceCount() const noexcept override { return 1; }
    c10::Stream getStream(c10::Device) const noexcept override {
        return as_stream(emulated::current_stream());
    }
    c10::Stream getDefaultStream(c10::Device) const override { return as_stream(nullptr); }
    c10::Stream getStreamFromGlobalPool(c10::Device, bool) const override {
        return as_stream(emulated::new_stream(false));
    }
    c10::Stream getNewStream(c10::Device, int) const override {
        return as_stream(emulated::new_stream(false));
    }
    c10::Stream exchangeStream(c10::Stream stream) const noexcept override {
        const auto before = as_stream(emulated::current_stream());
        emulated::set_current_stream(reinterpret_cast<void*>(stream.id()));
        return before;
    }
    // Work is done at once, so there is nothing that an event could wait for.
    void record(void**, const c10::Stream&, const c10::DeviceIndex,
                const c10::EventFlag) const override {}
    void block(void*, const c10::Stream&) const override {}
    bool queryEvent(void*) const override { return true; }
    void destroyEvent(void*, const c10::DeviceIndex) const noexcept override {}
    bool queryStream(const c10::Stream&) const override { return true; }
    void synchronizeStream(const c10::Stream& stream) const override {
        emulated::reached(reinterpret_cast<void*>(stream.id()));
    }
    void synchronizeDevice(const c10::DeviceIndex) const override { emulated::reached_all(); }
    void recordDataPtrOnStream(const c10::DataPtr&, const c10::Stream&) const override {}
};

C10_REGISTER_GUARD_IMPL(CUDA, DeviceGuard);

}  // namespace

// ---- hooks ----

namespace at {

// REGISTER_CUDA_HOOKS wants a class of this name in this namespace.
struct CUDAHooks final : CUDAHooksInterface {
    explicit CUDAHooks(CUDAHooksArgs) {}
    void init() const override {}
    bool hasCUDA() const override { return true; }
    bool isBuilt() const override { return true; }
    bool isAvailable() const override { return true; }
    bool hasPrimaryContext(DeviceIndex) const override { return true; }
    DeviceIndex deviceCount() const override { return 1; }
    DeviceIndex current_device() const override { return 0; }
    DeviceIndex getCurrentDevice() const override { return 0; }
    Device getDeviceFromPtr(void*) const override { return kDevice; }
    bool isPinnedPtr(const void*) const override { return false; }
    Allocator* getPinnedMemoryAllocator() const override { return c10::GetCPUAllocator(); }
    const Generator& getDefaultGenerator(DeviceIndex) const override {
        return detail::getDefaultCPUGenerator();
    }
    Generator getNewGenerator(DeviceIndex) const override {
        return make_generator<CPUGeneratorImpl>();
    }
};

REGISTER_CUDA_HOOKS(CUDAHooks)

}  // namespace at

namespace {

// ---- operators ----

using at::Tensor;

// The same bytes as a tensor of the CPU.
Tensor on_cpu(const Tensor& tensor) {
    if (!tensor.defined() || !tensor.is_cuda()) return tensor;
    const auto storage = tensor.storage();
    auto alias = c10::Storage(c10::make_intrusive<c10::StorageImpl>(
        c10::StorageImpl::use_byte_size_t(), storage.nbytes(),
        c10::DataPtr(const_cast<void*>(storage.data()), c10::Device(c10::kCPU)),
        c10::GetAllocator(c10::kCPU), true));
    auto made = at::detail::make_tensor<c10::TensorImpl>(
        std::move(alias), c10::DispatchKeySet(c10::DispatchKey::CPU), tensor.dtype());
    made.unsafeGetTensorImpl()->set_sizes_and_strides(tensor.sizes(), tensor.strides(),
                                                      tensor.storage_offset());
    if (tensor.is_conj()) made._set_conj(true);
    if (tensor.is_neg()) made._set_neg(true);
    return made;
}

Tensor empty_on_device(c10::IntArrayRef size, c10::IntArrayRef stride, c10::ScalarType dtype) {
    return at::detail::empty_strided_generic(size, stride, &allocator,
                                             c10::DispatchKeySet(c10::DispatchKey::CUDA), dtype);
}

// A copy on the device; dense layouts keep their strides.
Tensor to_device(const Tensor& tensor) {
    if (!tensor.defined() || !tensor.is_cpu()) return tensor;
    const Tensor dense = tensor.is_non_overlapping_and_dense() ? tensor : tensor.contiguous();
    Tensor made = empty_on_device(dense.sizes(), dense.strides(), dense.scalar_type());
    if (dense.numel())
        std::memcpy(const_cast<void*>(made.storage().data()), dense.data_ptr(),
                    dense.numel() * dense.element_size());
    return made;
}

Tensor view_of(const Tensor& base, const Tensor& shape) {
    auto made = at::detail::make_tensor<c10::TensorImpl>(
        c10::TensorImpl::VIEW, c10::Storage(base.storage()), base.key_set(), shape.dtype());
    made.unsafeGetTensorImpl()->set_sizes_and_strides(shape.sizes(), shape.strides(),
                                                      shape.storage_offset());
    return made;
}

void check_device() {
    TORCH_CHECK(!emulated::is_broken(), "CUDA error: the device is unusable since a kernel failed");
}

// Carries an operator out with the CPU's kernel and puts the results back on the device.
class Detour {
  public:
    Detour(const c10::OperatorHandle& op, torch::jit::Stack* stack) : stack_(*stack) {
        const size_t n = op.schema().arguments().size();
        for (size_t i = stack_.size() - n; i < stack_.size(); i++) stack_[i] = lower(stack_[i]);
    }

    void finish(size_t returns) {
        for (auto& [device, cpu] : aliases_) follow(device, cpu);
        for (size_t i = stack_.size() - returns; i < stack_.size(); i++) stack_[i] = lift(stack_[i]);
    }

  private:
    Tensor lower(const Tensor& tensor) {
        Tensor cpu = on_cpu(tensor);
        if (tensor.defined() && tensor.is_cuda()) aliases_.emplace_back(tensor, cpu);
        return cpu;
    }

    c10::IValue lower(const c10::IValue& value) {
        if (value.isTensor()) return lower(value.toTensor());
        if (value.isDevice()) return value.toDevice().is_cuda() ? c10::Device(c10::kCPU) : value;
        if (value.isTensorList()) {
            c10::List<Tensor> list;
            for (const Tensor& tensor : value.toTensorVector()) list.push_back(lower(tensor));
            return list;
        }
        if (value.isOptionalTensorList()) {
            c10::List<std::optional<Tensor>> list;
            for (const auto& tensor : value.toOptionalTensorVector())
                list.push_back(tensor ? std::optional<Tensor>(lower(*tensor)) : std::nullopt);
            return list;
        }
        return value;
    }

    // An `out` argument may have been given another size.
    static void follow(const Tensor& device, const Tensor& cpu) {
        auto* impl = device.unsafeGetTensorImpl();
        if (cpu.numel() && cpu.storage().data() != device.storage().data()) {
            const Tensor copied = to_device(cpu);
            impl->set_storage_keep_dtype(copied.storage());
            impl->set_sizes_and_strides(copied.sizes(), copied.strides(), copied.storage_offset());
        } else if (cpu.sizes() != device.sizes() || cpu.strides() != device.strides()) {
            impl->set_sizes_and_strides(cpu.sizes(), cpu.strides(), cpu.storage_offset());
        }
    }

    Tensor lift(const Tensor& cpu) const {
        if (!cpu.defined() || !cpu.is_cpu()) return cpu;
        for (const auto& [device, alias] : aliases_)
            if (alias.unsafeGetTensorImpl() == cpu.unsafeGetTensorImpl()) return device;
        for (const auto& [device, alias] : aliases_)
            if (cpu.numel() && cpu.storage().data() == device.storage().data())
                return view_of(device, cpu);
        return to_device(cpu);
    }

    c10::IValue lift(const c10::IValue& value) const {
        if (value.isTensor()) return lift(value.toTensor());
        if (value.isTensorList()) {
            c10::List<Tensor> list;
            for (const Tensor& tensor : value.toTensorVector()) list.push_back(lift(tensor));
            return list;
        }
        return value;
    }

    torch::jit::Stack& stack_;
    std::vector<std::pair<Tensor, Tensor>> aliases_;  // on the device, and its bytes on the CPU
};

void by_cpu(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
    check_device();
    if (op.schema().name() == "aten::_local_scalar_dense")  // the host waits for the value
        emulated::reached(emulated::current_stream());
    const emulated::OnStream here(emulated::current_stream());
    emulated::note_operator(op.schema().name());
    Detour detour(op, stack);
    op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack);
    detour.finish(op.schema().returns().size());
}

TORCH_LIBRARY_IMPL(_, CUDA, library) {
    library.fallback(torch::CppFunction::makeFromBoxedFunction<&by_cpu>());
}

Tensor empty(c10::SymIntArrayRef size, std::optional<at::ScalarType> dtype,
             std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>,
             std::optional<at::MemoryFormat> format) {
    return at::detail::empty_generic(C10_AS_INTARRAYREF_SLOW(size), &allocator,
                                     c10::DispatchKeySet(c10::DispatchKey::CUDA),
                                     c10::dtype_or_default(dtype), format);
}

Tensor empty_strided(c10::IntArrayRef size, c10::IntArrayRef stride,
                     std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                     std::optional<at::Device>, std::optional<bool>) {
    return empty_on_device(size, stride, c10::dtype_or_default(dtype));
}

Tensor& copy_(Tensor& self, const Tensor& source, bool non_blocking) {
    check_device();
    if (self.is_cpu() || source.is_cpu()) emulated::reached(emulated::current_stream());
    const emulated::OnStream here(emulated::current_stream());
    on_cpu(self).copy_(on_cpu(source), non_blocking);
    return self;
}

// Composite operators that would otherwise look for a CUDA kernel of their own.
constexpr const char* kDirect[] = {
    "convolution", "convolution_backward", "_convolution", "native_batch_norm",
    "native_batch_norm_backward", "native_dropout", "native_layer_norm",
    "native_layer_norm_backward", "native_group_norm", "native_group_norm_backward",
    "embedding_dense_backward", "_fused_rms_norm", "index_put_", "_index_put_impl_",
    "linalg_vector_norm"};

TORCH_LIBRARY_IMPL(aten, CUDA, library) {
    library.impl("empty.memory_format", empty);
    library.impl("empty_strided", empty_strided);
    library.impl("copy_", copy_);
    for (const char* name : kDirect)
        library.impl(name, torch::CppFunction::makeFromBoxedFunction<&by_cpu>());
}

}  // namespace
