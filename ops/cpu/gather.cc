// out_i = sum_j weight_j * c[s_j, post_j] for the rows i of a mask (all of them if it is empty), 0 for the others.
#include <algorithm>

#include "brainsim/batch.h"
#include "brainsim/graph.h"
#include "brainsim/handler.h"

namespace brainsim {
namespace {

template <typename T, bool kOne, bool kDelay>
T gather_row(int64_t i, const T* c, const T* weight, const Graph& graph) {
  T sum[4] = {};  // four chains of additions instead of one: the order is fixed, the latency hidden
  graph.for_row<kDelay>(i, [&](int64_t j, int64_t at) { sum[j & 3] += kOne ? c[at] : weight[j] * c[at]; });
  const T all = (sum[0] + sum[1]) + (sum[2] + sum[3]);
  return kOne ? weight[0] * all : all;
}

template <typename T, bool kOne, bool kDelay>
void gather_rows(T* out, const T* c, const T* weight, const bool* mask, int64_t first, int64_t n_pre,
                 const Graph& graph) {
  for (int64_t i = 0; i < n_pre; ++i) {
    out[first + i] = mask == nullptr || mask[first + i] ? gather_row<T, kOne, kDelay>(i, c, weight, graph) : T(0);
  }
}

ffi::Error gather(ffi::AnyBuffer c, ffi::AnyBuffer weight, ffi::AnyBuffer mask, ffi::AnyBuffer slot,
                  ffi::AnyBuffer delay, ffi::AnyBuffer indptr, ffi::AnyBuffer indices, ffi::Result<ffi::AnyBuffer> out,
                  int64_t n_pre, int64_t fanout, int64_t first) {
  auto dims = c.dimensions();
  if (dims.size() < 2) return ffi::Error::InvalidArgument("gather: c needs a depth and a size");
  const int64_t depth = dims[dims.size() - 2], n_post = dims[dims.size() - 1];
  Batch batch(dims.size() - 2);
  batch.with(c).with(weight).with(mask).with(slot).with(delay).with(indptr).with(indices);
  if (!batch.ok()) return ffi::Error::InvalidArgument("gather: batch axes do not fit");
  return for_float_type(c.element_type(), {weight.element_type(), out->element_type()}, [&](auto zero) {
    using T = decltype(zero);
    View<T> to(*out, batch);
    View<const T> from(c, batch), w(weight, batch);
    View<const bool> rows(mask, batch);
    Graphs graphs(slot, delay, indptr, indices, batch, fanout, depth, n_post);
    const bool one = w.size() == 1;
    if (!graphs.fit(n_pre) || first < 0 || to.size() < first + n_pre ||
        (rows.size() != 0 && rows.size() != to.size())) {
      return ffi::Error::InvalidArgument("gather: lengths do not fit");
    }
    batch.each([&](const Axes& b) {
      const Graph graph = graphs.at(b);
      std::fill_n(to.at(b), first, T(0));
      std::fill(to.at(b) + first + n_pre, to.at(b) + to.size(), T(0));
      const bool* wanted = rows.size() == 0 ? nullptr : rows.at(b);
      if (one && graph.delay) gather_rows<T, true, true>(to.at(b), from.at(b), w.at(b), wanted, first, n_pre, graph);
      if (one && !graph.delay) gather_rows<T, true, false>(to.at(b), from.at(b), w.at(b), wanted, first, n_pre, graph);
      if (!one && graph.delay) gather_rows<T, false, true>(to.at(b), from.at(b), w.at(b), wanted, first, n_pre, graph);
      if (!one && !graph.delay)
        gather_rows<T, false, false>(to.at(b), from.at(b), w.at(b), wanted, first, n_pre, graph);
    });
    return ffi::Error::Success();
  });
}

}  // namespace
}  // namespace brainsim

BRAINSIM_HANDLER(brainsim_gather, brainsim::gather,
                 xla::ffi::Ffi::Bind()
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
