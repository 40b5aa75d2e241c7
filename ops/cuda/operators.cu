// The handlers of XLA's foreign function interface for NVIDIA GPUs; operands and attributes are those of ops/cpu.
#include <cuda_runtime.h>

#include <algorithm>

#include "brainsim/handler.h"
#include "brainsim/version.h"
#include "drawn_kernels.h"
#include "kernels.h"

namespace brainsim::cuda {
namespace {

ffi::Error failed(cudaError_t error) {
  if (error == cudaSuccess) return ffi::Error::Success();
  cudaGetLastError();  // told once: the next call is not to blame
  return ffi::Error::Internal(cudaGetErrorString(error));
}

// A grid for `n` pieces of work of each of `batch` elements, as far as a grid goes; kernels come back for the rest.
dim3 grid(int64_t n, int64_t batch) {
  return dim3(static_cast<unsigned>(std::min<int64_t>(n, 1 << 20)),
              static_cast<unsigned>(std::min<int64_t>(batch, 65535)));
}

// Launches `kernel` on blocks of `threads`, if there is anything to do.
template <typename... P, typename... A>
ffi::Error launch(cudaStream_t stream, dim3 blocks, int threads, void (*kernel)(P...), const A&... args) {
  if (blocks.x > 0 && blocks.y > 0) kernel<<<blocks, threads, 0, stream>>>(args...);
  return failed(cudaGetLastError());
}

// The result starts as the operand that it replaces.
template <typename T, typename U>
ffi::Error start(cudaStream_t stream, const View<T>& to, const View<U>& from) {
  if (to.data() == from.data() || to.total() == 0) return ffi::Error::Success();
  return failed(cudaMemcpyAsync(to.data(), from.data(), to.total() * sizeof(T), cudaMemcpyDeviceToDevice, stream));
}

// The result starts as zeros.
template <typename T>
ffi::Error clear(cudaStream_t stream, const View<T>& to) {
  if (to.total() == 0) return ffi::Error::Success();
  return failed(cudaMemsetAsync(to.data(), 0, to.total() * sizeof(T), stream));
}

dim3 blocks_of(const Shares& shares, int64_t n_pre, int64_t batch) {
  return grid((n_pre + shares.rows - 1) / shares.rows, batch);
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
    if (ffi::Error error = start(stream, to, from); error.failure()) return error;
    if (to.size() == 0) return ffi::Error::Success();
    const Shares shares = Shares::of(graphs.n_syn() / std::max<int64_t>(n_pre, 1));
    auto kernel = graphs.delays() ? scatter_rows<true, T> : scatter_rows<false, T>;
    return launch(stream, blocks_of(shares, n_pre, batch.size()), kThreads, kernel,
                  Sent<T>{batch, graphs, v, packed, n_pre, first, shares}, w, to);
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
    if (ffi::Error error = clear(stream, to); error.failure()) return error;
    const Shares shares = Shares::of(graphs.n_syn() / std::max<int64_t>(n_pre, 1));
    auto kernel = graphs.delays() ? gather_rows<true, T> : gather_rows<false, T>;
    return launch(stream, blocks_of(shares, n_pre, batch.size()), kThreads, kernel, batch, graphs, from, w, rows, to,
                  n_pre, first, shares.rows);
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
    if (ffi::Error error = clear(stream, to); error.failure()) return error;
    const Shares shares = Shares::of(graphs.n_syn() / std::max<int64_t>(n_pre, 1));
    auto kernel = graphs.delays() ? outer_rows<true, T> : outer_rows<false, T>;
    return launch(stream, blocks_of(shares, n_pre, batch.size()), kThreads, kernel,
                  Sent<T>{batch, graphs, v, packed, n_pre, first, shares}, from, to);
  });
}

ffi::Error append(cudaStream_t stream, ffi::AnyBuffer buffer, ffi::AnyBuffer count, ffi::AnyBuffer value,
                  ffi::AnyBuffer words, ffi::Result<ffi::AnyBuffer> buffer_out, ffi::Result<ffi::AnyBuffer> count_out) {
  Batch batch(count.dimensions().size());
  batch.with(buffer).with(count).with(value).with(words);
  if (!batch.ok()) return ffi::Error::InvalidArgument("append: batch axes do not fit");
  return for_float_type(value.element_type(), {}, [&](auto zero) {
    using T = decltype(zero);
    View<const T> v(value, batch);
    Words packed(words, batch, v.size());
    if (!packed.fit()) return ffi::Error::InvalidArgument("append: lengths do not fit");
    View<int32_t> list(*buffer_out, batch), length(*count_out, batch);
    if (ffi::Error error = start(stream, list, View<const int32_t>(buffer, batch)); error.failure()) return error;
    if (ffi::Error error = start(stream, length, View<const int32_t>(count, batch)); error.failure()) return error;
    return launch(stream, grid(batch.size(), 1), kMostThreads, append_events<T>, batch, v, packed, list, length);
  });
}

ffi::Error drawn_scatter(cudaStream_t stream, ffi::AnyBuffer base, ffi::AnyBuffer value, ffi::AnyBuffer weight,
                         ffi::AnyBuffer words, ffi::AnyBuffer slot, ffi::AnyBuffer seed, ffi::AnyBuffer tables,
                         ffi::Result<ffi::AnyBuffer> out, ffi::Dictionary attributes) {
  auto dims = base.dimensions();
  if (dims.size() < 2) return ffi::Error::InvalidArgument("drawn scatter: base needs a depth and a size");
  Batch batch(dims.size() - 2);
  batch.with(base).with(value).with(weight).with(words).with(slot).with(seed).with(tables);
  if (!batch.ok()) return ffi::Error::InvalidArgument("drawn scatter: batch axes do not fit");
  auto same = {value.element_type(), weight.element_type(), out->element_type()};
  return for_float_type(base.element_type(), same, [&](auto zero) {
    using T = decltype(zero);
    View<T> to(*out, batch);
    View<const T> from(base, batch), v(value, batch), w(weight, batch);
    const Rows rows = rows_of(attributes);
    const Plans plans(slot, seed, tables, batch, rows, dims[dims.size() - 2], dims[dims.size() - 1]);
    Words packed(words, batch, v.size());
    if (!plans.fit(v.size()) || !packed.fit() || w.size() != plans.n_weight()) {
      return ffi::Error::InvalidArgument("drawn scatter: lengths do not fit");
    }
    if (ffi::Error error = start(stream, to, from); error.failure()) return error;
    if (to.size() == 0) return ffi::Error::Success();
    const Shares shares = drawn_shares(rows);
    auto kernel = rows.law == kOne ? drawn_scatter_rows<false, T> : drawn_scatter_rows<true, T>;
    return launch(stream, blocks_of(shares, rows.n_pre, batch.size()), kThreads, kernel,
                  DrawnSent<T>{batch, plans, v, packed, shares}, w, to);
  });
}

ffi::Error drawn_gather(cudaStream_t stream, ffi::AnyBuffer c, ffi::AnyBuffer weight, ffi::AnyBuffer mask,
                        ffi::AnyBuffer slot, ffi::AnyBuffer seed, ffi::AnyBuffer tables,
                        ffi::Result<ffi::AnyBuffer> out, ffi::Dictionary attributes) {
  auto dims = c.dimensions();
  if (dims.size() < 2) return ffi::Error::InvalidArgument("drawn gather: c needs a depth and a size");
  Batch batch(dims.size() - 2);
  batch.with(c).with(weight).with(mask).with(slot).with(seed).with(tables);
  if (!batch.ok()) return ffi::Error::InvalidArgument("drawn gather: batch axes do not fit");
  return for_float_type(c.element_type(), {weight.element_type(), out->element_type()}, [&](auto zero) {
    using T = decltype(zero);
    View<T> to(*out, batch);
    View<const T> from(c, batch), w(weight, batch);
    View<const bool> wanted(mask, batch);
    const Rows rows = rows_of(attributes);
    const Plans plans(slot, seed, tables, batch, rows, dims[dims.size() - 2], dims[dims.size() - 1]);
    if (!plans.fit(to.size()) || w.size() != plans.n_weight() || (wanted.size() != 0 && wanted.size() != to.size())) {
      return ffi::Error::InvalidArgument("drawn gather: lengths do not fit");
    }
    if (ffi::Error error = clear(stream, to); error.failure()) return error;
    const Shares shares = drawn_shares(rows);
    auto kernel = rows.law == kOne ? drawn_gather_rows<false, T> : drawn_gather_rows<true, T>;
    return launch(stream, blocks_of(shares, rows.n_pre, batch.size()), kThreads, kernel, batch, plans, from, w, wanted,
                  to, shares.rows);
  });
}

ffi::Error drawn_outer(cudaStream_t stream, ffi::AnyBuffer value, ffi::AnyBuffer c, ffi::AnyBuffer words,
                       ffi::AnyBuffer slot, ffi::AnyBuffer seed, ffi::AnyBuffer tables, ffi::Result<ffi::AnyBuffer> out,
                       ffi::Dictionary attributes) {
  auto dims = c.dimensions();
  if (dims.size() < 2) return ffi::Error::InvalidArgument("drawn outer: c needs a depth and a size");
  Batch batch(dims.size() - 2);
  batch.with(value).with(c).with(words).with(slot).with(seed).with(tables).with(*out);
  if (!batch.ok()) return ffi::Error::InvalidArgument("drawn outer: batch axes do not fit");
  return for_float_type(c.element_type(), {value.element_type(), out->element_type()}, [&](auto zero) {
    using T = decltype(zero);
    View<T> to(*out, batch);
    View<const T> from(c, batch), v(value, batch);
    const Rows rows = rows_of(attributes);
    const Plans plans(slot, seed, tables, batch, rows, dims[dims.size() - 2], dims[dims.size() - 1]);
    Words packed(words, batch, v.size());
    if (!plans.fit(v.size()) || !packed.fit() || to.size() != plans.n_weight()) {
      return ffi::Error::InvalidArgument("drawn outer: lengths do not fit");
    }
    if (ffi::Error error = clear(stream, to); error.failure()) return error;
    const Shares shares = drawn_shares(rows);
    auto kernel = rows.law == kOne ? drawn_outer_rows<false, T> : drawn_outer_rows<true, T>;
    return launch(stream, blocks_of(shares, rows.n_pre, batch.size()), kThreads, kernel,
                  DrawnSent<T>{batch, plans, v, packed, shares}, from, to);
  });
}

}  // namespace
}  // namespace brainsim::cuda

BRAINSIM_EXPORT int brainsim_cuda_version() { return BRAINSIM_OPS_VERSION; }

// All a handler does is put work on the stream: XLA may record it, and play a step as one graph.
#define BRAINSIM_RECORDED {xla::ffi::Traits::kCmdBufferCompatible}

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
                     .Attr<int64_t>("sorted_rows"),
                 BRAINSIM_RECORDED);

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
                     .Attr<int64_t>("first"),
                 BRAINSIM_RECORDED);

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
                     .Attr<int64_t>("first"),
                 BRAINSIM_RECORDED);

BRAINSIM_HANDLER(brainsim_cuda_append, brainsim::cuda::append,
                 xla::ffi::Ffi::Bind()
                     .Ctx<xla::ffi::PlatformStream<cudaStream_t>>()
                     .Arg<xla::ffi::AnyBuffer>()   // buffer
                     .Arg<xla::ffi::AnyBuffer>()   // count
                     .Arg<xla::ffi::AnyBuffer>()   // value
                     .Arg<xla::ffi::AnyBuffer>()   // words
                     .Ret<xla::ffi::AnyBuffer>()   // buffer, in place
                     .Ret<xla::ffi::AnyBuffer>(),  // count, in place
                 BRAINSIM_RECORDED);

BRAINSIM_HANDLER(brainsim_cuda_drawn_scatter, brainsim::cuda::drawn_scatter,
                 xla::ffi::Ffi::Bind()
                     .Ctx<xla::ffi::PlatformStream<cudaStream_t>>()
                     .Arg<xla::ffi::AnyBuffer>()  // base
                     .Arg<xla::ffi::AnyBuffer>()  // value
                     .Arg<xla::ffi::AnyBuffer>()  // weight
                     .Arg<xla::ffi::AnyBuffer>()  // words
                     .Arg<xla::ffi::AnyBuffer>()  // slot
                     .Arg<xla::ffi::AnyBuffer>()  // seed
                     .Arg<xla::ffi::AnyBuffer>()  // tables
                     .Ret<xla::ffi::AnyBuffer>()  // base, in place
                     .Attrs(),
                 BRAINSIM_RECORDED);

BRAINSIM_HANDLER(brainsim_cuda_drawn_gather, brainsim::cuda::drawn_gather,
                 xla::ffi::Ffi::Bind()
                     .Ctx<xla::ffi::PlatformStream<cudaStream_t>>()
                     .Arg<xla::ffi::AnyBuffer>()  // c
                     .Arg<xla::ffi::AnyBuffer>()  // weight
                     .Arg<xla::ffi::AnyBuffer>()  // mask
                     .Arg<xla::ffi::AnyBuffer>()  // slot
                     .Arg<xla::ffi::AnyBuffer>()  // seed
                     .Arg<xla::ffi::AnyBuffer>()  // tables
                     .Ret<xla::ffi::AnyBuffer>()
                     .Attrs(),
                 BRAINSIM_RECORDED);

BRAINSIM_HANDLER(brainsim_cuda_drawn_outer, brainsim::cuda::drawn_outer,
                 xla::ffi::Ffi::Bind()
                     .Ctx<xla::ffi::PlatformStream<cudaStream_t>>()
                     .Arg<xla::ffi::AnyBuffer>()  // value
                     .Arg<xla::ffi::AnyBuffer>()  // c
                     .Arg<xla::ffi::AnyBuffer>()  // words
                     .Arg<xla::ffi::AnyBuffer>()  // slot
                     .Arg<xla::ffi::AnyBuffer>()  // seed
                     .Arg<xla::ffi::AnyBuffer>()  // tables
                     .Ret<xla::ffi::AnyBuffer>()
                     .Attrs(),
                 BRAINSIM_RECORDED);
