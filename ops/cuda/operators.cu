// The handlers of XLA's foreign function interface for NVIDIA GPUs; operands and attributes are those of ops/cpu.
#include <cuda_runtime.h>

#include <algorithm>

#include "brainsim/calls.h"
#include "brainsim/version.h"
#include "convolved_kernels.h"
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

// Launches a kernel that shares rows out, a row of the grid for each element of the batch.
template <typename Call, typename... P, typename... A>
ffi::Error over_rows(cudaStream_t stream, const Call& call, const Shares& shares, void (*kernel)(P...),
                     const A&... args) {
  const int64_t n = (call.rows.n_pre() + shares.rows - 1) / shares.rows;
  return launch(stream, grid(n, call.batch.size()), kThreads, kernel, args...);
}

Shares shares_of(const Graphs& graphs) { return Shares::of(graphs.length()); }
Shares shares_of(const Plans& plans) { return drawn_shares(plans.rows()); }
Shares shares_of(const Windows& windows) { return convolved_shares(windows); }

// What the handlers of stored, drawn and shared rows do alike with the kernel that choose(T()) gives.
template <typename Choose>
auto scattered(cudaStream_t stream, Choose choose) {
  return [=](const auto& call) {
    using T = std::decay_t<decltype(*call.out.data())>;
    if (ffi::Error error = start(stream, call.out, call.base); error.failure()) return error;
    if (call.out.size() == 0) return ffi::Error::Success();
    const Shares shares = shares_of(call.rows);
    const Sent<T, std::decay_t<decltype(call.rows)>> sent{call.batch, call.rows, call.value, call.words, shares};
    return over_rows(stream, call, shares, choose(call.rows, T()), sent, call.weight, call.out);
  };
}

template <typename Choose>
auto gathered(cudaStream_t stream, Choose choose) {
  return [=](const auto& call) {
    using T = std::decay_t<decltype(*call.out.data())>;
    if (ffi::Error error = clear(stream, call.out); error.failure()) return error;
    const Shares shares = shares_of(call.rows);
    return over_rows(stream, call, shares, choose(call.rows, T()), call.batch, call.rows, call.c, call.weight,
                     call.mask, call.out, shares.rows);
  };
}

template <typename Choose>
auto multiplied(cudaStream_t stream, Choose choose) {
  return [=](const auto& call) {
    using T = std::decay_t<decltype(*call.out.data())>;
    if (ffi::Error error = clear(stream, call.out); error.failure()) return error;
    const Shares shares = shares_of(call.rows);
    const Sent<T, std::decay_t<decltype(call.rows)>> sent{call.batch, call.rows, call.value, call.words, shares};
    return over_rows(stream, call, shares, choose(call.rows, T()), sent, call.c, call.out);
  };
}

ffi::Error scatter(cudaStream_t stream, ffi::AnyBuffer base, ffi::AnyBuffer value, ffi::AnyBuffer weight,
                   ffi::AnyBuffer words, ffi::AnyBuffer slot, ffi::AnyBuffer delay, ffi::AnyBuffer indptr,
                   ffi::AnyBuffer indices, ffi::Result<ffi::AnyBuffer> out, int64_t n_pre, int64_t fanout,
                   int64_t first, int64_t) {
  auto kernel = [](const auto& rows, auto t) {
    return rows.delays() ? scatter_rows<true, decltype(t)> : scatter_rows<false, decltype(t)>;
  };
  return for_scatter("scatter", Stored{slot, delay, indptr, indices, n_pre, fanout, first}, base, value, weight, words,
                     out, scattered(stream, kernel));
}

ffi::Error gather(cudaStream_t stream, ffi::AnyBuffer c, ffi::AnyBuffer weight, ffi::AnyBuffer mask,
                  ffi::AnyBuffer slot, ffi::AnyBuffer delay, ffi::AnyBuffer indptr, ffi::AnyBuffer indices,
                  ffi::Result<ffi::AnyBuffer> out, int64_t n_pre, int64_t fanout, int64_t first) {
  auto kernel = [](const auto& rows, auto t) {
    return rows.delays() ? gather_rows<true, decltype(t)> : gather_rows<false, decltype(t)>;
  };
  return for_gather("gather", Stored{slot, delay, indptr, indices, n_pre, fanout, first}, c, weight, mask, out,
                    gathered(stream, kernel));
}

ffi::Error outer(cudaStream_t stream, ffi::AnyBuffer value, ffi::AnyBuffer c, ffi::AnyBuffer words, ffi::AnyBuffer slot,
                 ffi::AnyBuffer delay, ffi::AnyBuffer indptr, ffi::AnyBuffer indices, ffi::Result<ffi::AnyBuffer> out,
                 int64_t n_pre, int64_t fanout, int64_t first) {
  auto kernel = [](const auto& rows, auto t) {
    return rows.delays() ? outer_rows<true, decltype(t)> : outer_rows<false, decltype(t)>;
  };
  return for_outer("outer", Stored{slot, delay, indptr, indices, n_pre, fanout, first}, value, c, words, out, false,
                   multiplied(stream, kernel));
}

ffi::Error append(cudaStream_t stream, ffi::AnyBuffer buffer, ffi::AnyBuffer count, ffi::AnyBuffer value,
                  ffi::AnyBuffer words, ffi::Result<ffi::AnyBuffer> buffer_out, ffi::Result<ffi::AnyBuffer> count_out,
                  int64_t many) {
  return for_append(buffer, count, value, words, buffer_out, count_out, [&](const auto& call) {
    using T = std::decay_t<decltype(*call.value.data())>;
    if (ffi::Error error = start(stream, call.list, call.list_before); error.failure()) return error;
    if (ffi::Error error = start(stream, call.length, call.length_before); error.failure()) return error;
    return launch(stream, grid(call.batch.size(), 1), kMostThreads, append_events<T>, call.batch, call.value,
                  call.words, call.list, call.length, many != 0);
  });
}

ffi::Error drawn_scatter(cudaStream_t stream, ffi::AnyBuffer base, ffi::AnyBuffer value, ffi::AnyBuffer weight,
                         ffi::AnyBuffer words, ffi::AnyBuffer slot, ffi::AnyBuffer seed, ffi::AnyBuffer tables,
                         ffi::Result<ffi::AnyBuffer> out, ffi::Dictionary attributes) {
  auto kernel = [](const auto& rows, auto t) {
    return rows.rows().law != kOne ? drawn_scatter_rows<true, decltype(t)> : drawn_scatter_rows<false, decltype(t)>;
  };
  return for_scatter("drawn scatter", Drawn{slot, seed, tables, attributes}, base, value, weight, words, out,
                     scattered(stream, kernel));
}

ffi::Error drawn_gather(cudaStream_t stream, ffi::AnyBuffer c, ffi::AnyBuffer weight, ffi::AnyBuffer mask,
                        ffi::AnyBuffer slot, ffi::AnyBuffer seed, ffi::AnyBuffer tables,
                        ffi::Result<ffi::AnyBuffer> out, ffi::Dictionary attributes) {
  auto kernel = [](const auto& rows, auto t) {
    return rows.rows().law != kOne ? drawn_gather_rows<true, decltype(t)> : drawn_gather_rows<false, decltype(t)>;
  };
  return for_gather("drawn gather", Drawn{slot, seed, tables, attributes}, c, weight, mask, out,
                    gathered(stream, kernel));
}

ffi::Error drawn_outer(cudaStream_t stream, ffi::AnyBuffer value, ffi::AnyBuffer c, ffi::AnyBuffer words,
                       ffi::AnyBuffer slot, ffi::AnyBuffer seed, ffi::AnyBuffer tables, ffi::Result<ffi::AnyBuffer> out,
                       ffi::Dictionary attributes) {
  auto kernel = [](const auto& rows, auto t) {
    return rows.rows().law != kOne ? drawn_outer_rows<true, decltype(t)> : drawn_outer_rows<false, decltype(t)>;
  };
  return for_outer("drawn outer", Drawn{slot, seed, tables, attributes}, value, c, words, out, false,
                   multiplied(stream, kernel));
}

ffi::Error convolved_scatter(cudaStream_t stream, ffi::AnyBuffer base, ffi::AnyBuffer value, ffi::AnyBuffer weight,
                             ffi::AnyBuffer words, ffi::AnyBuffer slot, ffi::Result<ffi::AnyBuffer> out,
                             ffi::Span<const int64_t> window, int64_t first) {
  auto kernel = [](const auto&, auto t) { return convolved_scatter_rows<decltype(t)>; };
  return for_scatter("convolved scatter", Shared{slot, window, first}, base, value, weight, words, out,
                     scattered(stream, kernel));
}

ffi::Error convolved_gather(cudaStream_t stream, ffi::AnyBuffer c, ffi::AnyBuffer weight, ffi::AnyBuffer mask,
                            ffi::AnyBuffer slot, ffi::Result<ffi::AnyBuffer> out, ffi::Span<const int64_t> window,
                            int64_t first) {
  auto kernel = [](const auto&, auto t) { return convolved_gather_rows<decltype(t)>; };
  return for_gather("convolved gather", Shared{slot, window, first}, c, weight, mask, out, gathered(stream, kernel));
}

ffi::Error convolved_outer(cudaStream_t stream, ffi::AnyBuffer value, ffi::AnyBuffer c, ffi::AnyBuffer words,
                           ffi::AnyBuffer slot, ffi::Result<ffi::AnyBuffer> out, ffi::Span<const int64_t> window,
                           int64_t first) {
  auto kernel = [](const auto&, auto t) { return convolved_outer_rows<decltype(t)>; };
  return for_outer("convolved outer", Shared{slot, window, first}, value, c, words, out, false,
                   multiplied(stream, kernel));
}

}  // namespace
}  // namespace brainsim::cuda

BRAINSIM_EXPORT int brainsim_cuda_version() { return BRAINSIM_OPS_VERSION; }

// All a handler does is put work on the stream: XLA may record it, and play a step as one graph.
#define BRAINSIM_ON_STREAM xla::ffi::Ffi::Bind().Ctx<xla::ffi::PlatformStream<cudaStream_t>>()
#define BRAINSIM_RECORDED {xla::ffi::Traits::kCmdBufferCompatible}

BRAINSIM_HANDLER(brainsim_cuda_scatter, brainsim::cuda::scatter,
                 brainsim::take_stored<8>(BRAINSIM_ON_STREAM).Attr<int64_t>("sorted_rows"), BRAINSIM_RECORDED);

BRAINSIM_HANDLER(brainsim_cuda_gather, brainsim::cuda::gather, brainsim::take_stored<7>(BRAINSIM_ON_STREAM),
                 BRAINSIM_RECORDED);

BRAINSIM_HANDLER(brainsim_cuda_outer, brainsim::cuda::outer, brainsim::take_stored<7>(BRAINSIM_ON_STREAM),
                 BRAINSIM_RECORDED);

BRAINSIM_HANDLER(
    brainsim_cuda_append, brainsim::cuda::append,
    brainsim::take<4>(BRAINSIM_ON_STREAM).Ret<xla::ffi::AnyBuffer>().Ret<xla::ffi::AnyBuffer>().Attr<int64_t>("many"),
    BRAINSIM_RECORDED);

BRAINSIM_HANDLER(brainsim_cuda_drawn_scatter, brainsim::cuda::drawn_scatter,
                 brainsim::take_drawn<7>(BRAINSIM_ON_STREAM), BRAINSIM_RECORDED);

BRAINSIM_HANDLER(brainsim_cuda_drawn_gather, brainsim::cuda::drawn_gather, brainsim::take_drawn<6>(BRAINSIM_ON_STREAM),
                 BRAINSIM_RECORDED);

BRAINSIM_HANDLER(brainsim_cuda_drawn_outer, brainsim::cuda::drawn_outer, brainsim::take_drawn<6>(BRAINSIM_ON_STREAM),
                 BRAINSIM_RECORDED);

BRAINSIM_HANDLER(brainsim_cuda_convolved_scatter, brainsim::cuda::convolved_scatter,
                 brainsim::take_shared<5>(BRAINSIM_ON_STREAM), BRAINSIM_RECORDED);

BRAINSIM_HANDLER(brainsim_cuda_convolved_gather, brainsim::cuda::convolved_gather,
                 brainsim::take_shared<4>(BRAINSIM_ON_STREAM), BRAINSIM_RECORDED);

BRAINSIM_HANDLER(brainsim_cuda_convolved_outer, brainsim::cuda::convolved_outer,
                 brainsim::take_shared<4>(BRAINSIM_ON_STREAM), BRAINSIM_RECORDED);
