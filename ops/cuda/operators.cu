// The handlers of XLA's foreign function interface for NVIDIA GPUs; operands and attributes are those of ops/cpu.
#include <cuda_runtime.h>

#include <algorithm>

#include "brainsim/handler.h"
#include "brainsim/version.h"
#include "kernels.h"

namespace brainsim::cuda {
namespace {

// Launches `kernel` with a warp for each of `n` pieces of work, as far as the grid goes.
template <typename... P, typename... A>
ffi::Error launch(cudaStream_t stream, int64_t n, void (*kernel)(P...), const A&... args) {
  const int64_t blocks = std::min<int64_t>((n * kLanes + kThreads - 1) / kThreads, 1 << 20);
  if (blocks > 0) kernel<<<static_cast<unsigned>(blocks), kThreads, 0, stream>>>(args...);
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? ffi::Error::Success() : ffi::Error::Internal(cudaGetErrorString(error));
}

ffi::Error scatter(cudaStream_t stream, ffi::AnyBuffer base, ffi::AnyBuffer value, ffi::AnyBuffer weight,
                   ffi::AnyBuffer words, ffi::AnyBuffer slot, ffi::AnyBuffer delay, ffi::AnyBuffer indptr,
                   ffi::AnyBuffer indices, ffi::Result<ffi::AnyBuffer> out, int64_t n_pre, int64_t fanout,
                   int64_t first, int64_t) {
  auto dims = base.dimensions();
  if (dims.size() < 2) return ffi::Error::InvalidArgument("scatter: base needs a depth and a size");
  Batch batch(dims.size() - 2);
  batch.with(base).with(value).with(weight).with(words).with(slot).with(delay).with(indptr).with(indices);
  if (!batch.ok()) return ffi::Error::InvalidArgument("scatter: batch axes do not fit");
  auto same = {value.element_type(), weight.element_type(), out->element_type()};
  return for_float_type(base.element_type(), same, [&](auto zero) {
    using T = decltype(zero);
    Graphs graphs(slot, delay, indptr, indices, batch, fanout, dims[dims.size() - 2], dims[dims.size() - 1],
                  bytes_of(indices));
    View<const T> v(value, batch), w(weight, batch), from(base, batch);
    View<T> to(*out, batch);
    Words packed(words, batch, v.size());
    if (!graphs.fit(n_pre) || !packed.fit() || first < 0 || v.size() < first + n_pre) {
      return ffi::Error::InvalidArgument("scatter: lengths do not fit");
    }
    if (to.data() != from.data()) {
      cudaMemcpyAsync(to.data(), from.data(), to.total() * sizeof(T), cudaMemcpyDeviceToDevice, stream);
    }
    const int64_t work = to.size() == 0 ? 0 : (n_pre + kLanes - 1) / kLanes * batch.size();
    auto kernel = graphs.delays() ? scatter_rows<true, T> : scatter_rows<false, T>;
    return launch(stream, work, kernel, Sent<T>{batch, graphs, v, packed, n_pre, first}, w, to);
  });
}

ffi::Error gather(cudaStream_t stream, ffi::AnyBuffer c, ffi::AnyBuffer weight, ffi::AnyBuffer mask,
                  ffi::AnyBuffer slot, ffi::AnyBuffer delay, ffi::AnyBuffer indptr, ffi::AnyBuffer indices,
                  ffi::Result<ffi::AnyBuffer> out, int64_t n_pre, int64_t fanout, int64_t first) {
  auto dims = c.dimensions();
  if (dims.size() < 2) return ffi::Error::InvalidArgument("gather: c needs a depth and a size");
  Batch batch(dims.size() - 2);
  batch.with(c).with(weight).with(mask).with(slot).with(delay).with(indptr).with(indices);
  if (!batch.ok()) return ffi::Error::InvalidArgument("gather: batch axes do not fit");
  return for_float_type(c.element_type(), {weight.element_type(), out->element_type()}, [&](auto zero) {
    using T = decltype(zero);
    Graphs graphs(slot, delay, indptr, indices, batch, fanout, dims[dims.size() - 2], dims[dims.size() - 1],
                  bytes_of(indices));
    View<const T> from(c, batch), w(weight, batch);
    View<const bool> rows(mask, batch);
    View<T> to(*out, batch);
    if (!graphs.fit(n_pre) || first < 0 || to.size() < first + n_pre ||
        (rows.size() != 0 && rows.size() != to.size())) {
      return ffi::Error::InvalidArgument("gather: lengths do not fit");
    }
    cudaMemsetAsync(to.data(), 0, to.total() * sizeof(T), stream);
    auto kernel = graphs.delays() ? gather_rows<true, T> : gather_rows<false, T>;
    return launch(stream, n_pre * batch.size(), kernel, batch, graphs, from, w, rows, to, n_pre, first);
  });
}

ffi::Error outer(cudaStream_t stream, ffi::AnyBuffer value, ffi::AnyBuffer c, ffi::AnyBuffer words, ffi::AnyBuffer slot,
                 ffi::AnyBuffer delay, ffi::AnyBuffer indptr, ffi::AnyBuffer indices, ffi::Result<ffi::AnyBuffer> out,
                 int64_t n_pre, int64_t fanout, int64_t first) {
  auto dims = c.dimensions();
  if (dims.size() < 2) return ffi::Error::InvalidArgument("outer: c needs a depth and a size");
  Batch batch(dims.size() - 2);
  batch.with(value).with(c).with(words).with(slot).with(delay).with(indptr).with(indices).with(*out);
  if (!batch.ok()) return ffi::Error::InvalidArgument("outer: batch axes do not fit");
  return for_float_type(c.element_type(), {value.element_type(), out->element_type()}, [&](auto zero) {
    using T = decltype(zero);
    Graphs graphs(slot, delay, indptr, indices, batch, fanout, dims[dims.size() - 2], dims[dims.size() - 1],
                  bytes_of(indices));
    View<const T> v(value, batch), from(c, batch);
    View<T> to(*out, batch);
    Words packed(words, batch, v.size());
    if (!graphs.fit(n_pre) || !packed.fit() || first < 0 || v.size() < first + n_pre) {
      return ffi::Error::InvalidArgument("outer: lengths do not fit");
    }
    cudaMemsetAsync(to.data(), 0, to.total() * sizeof(T), stream);
    auto kernel = graphs.delays() ? outer_rows<true, T> : outer_rows<false, T>;
    return launch(stream, n_pre, kernel, Sent<T>{batch, graphs, v, packed, n_pre, first}, from, to);
  });
}

}  // namespace
}  // namespace brainsim::cuda

BRAINSIM_EXPORT int brainsim_cuda_version() { return BRAINSIM_OPS_VERSION; }

BRAINSIM_HANDLER(brainsim_cuda_scatter, brainsim::cuda::scatter,
                 xla::ffi::Ffi::Bind()
                     .Ctx<xla::ffi::PlatformStream<cudaStream_t>>()
                     .Arg<xla::ffi::AnyBuffer>()  // base
                     .Arg<xla::ffi::AnyBuffer>()  // value
                     .Arg<xla::ffi::AnyBuffer>()  // weight
                     .Arg<xla::ffi::AnyBuffer>()  // words
                     .Arg<xla::ffi::AnyBuffer>()  // slot
                     .Arg<xla::ffi::AnyBuffer>()  // delay
                     .Arg<xla::ffi::AnyBuffer>()  // indptr
                     .Arg<xla::ffi::AnyBuffer>()  // indices
                     .Ret<xla::ffi::AnyBuffer>()  // base, in place
                     .Attr<int64_t>("n_pre")
                     .Attr<int64_t>("fanout")
                     .Attr<int64_t>("first")
                     .Attr<int64_t>("sorted_rows"));

BRAINSIM_HANDLER(brainsim_cuda_gather, brainsim::cuda::gather,
                 xla::ffi::Ffi::Bind()
                     .Ctx<xla::ffi::PlatformStream<cudaStream_t>>()
                     .Arg<xla::ffi::AnyBuffer>()  // c
                     .Arg<xla::ffi::AnyBuffer>()  // weight
                     .Arg<xla::ffi::AnyBuffer>()  // mask
                     .Arg<xla::ffi::AnyBuffer>()  // slot
                     .Arg<xla::ffi::AnyBuffer>()  // delay
                     .Arg<xla::ffi::AnyBuffer>()  // indptr
                     .Arg<xla::ffi::AnyBuffer>()  // indices
                     .Ret<xla::ffi::AnyBuffer>()
                     .Attr<int64_t>("n_pre")
                     .Attr<int64_t>("fanout")
                     .Attr<int64_t>("first"));

BRAINSIM_HANDLER(brainsim_cuda_outer, brainsim::cuda::outer,
                 xla::ffi::Ffi::Bind()
                     .Ctx<xla::ffi::PlatformStream<cudaStream_t>>()
                     .Arg<xla::ffi::AnyBuffer>()  // value
                     .Arg<xla::ffi::AnyBuffer>()  // c
                     .Arg<xla::ffi::AnyBuffer>()  // words
                     .Arg<xla::ffi::AnyBuffer>()  // slot
                     .Arg<xla::ffi::AnyBuffer>()  // delay
                     .Arg<xla::ffi::AnyBuffer>()  // indptr
                     .Arg<xla::ffi::AnyBuffer>()  // indices
                     .Ret<xla::ffi::AnyBuffer>()
                     .Attr<int64_t>("n_pre")
                     .Attr<int64_t>("fanout")
                     .Attr<int64_t>("first"));
