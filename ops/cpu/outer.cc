// out_j = value_i * c[s_j, post_j] for the synapses j of the rows i with value_i != 0, summed over all synapses where
// `out` has one entry and over the batch axes of size 1 of `out`.
#include <algorithm>

#include "brainsim/batch.h"
#include "brainsim/graph.h"
#include "brainsim/handler.h"

namespace brainsim {
namespace {

template <typename T, bool kOne, bool kDelay>
void outer_rows(T* out, const T* value, const uint32_t* words, int64_t first, int64_t n_pre, const T* c,
                const Graph& graph) {
  for_active(value, words, first, n_pre, [&](int64_t i) {
    const T amount = value[first + i];
    if constexpr (kOne) {
      T sum = 0;
      graph.for_row<kDelay>(i, [&](int64_t, int64_t at) { sum += c[at]; });
      out[0] += amount * sum;
    } else {
      graph.for_row<kDelay>(i, [&](int64_t j, int64_t at) { out[j] += amount * c[at]; });
    }
  });
}

ffi::Error outer(ffi::AnyBuffer value, ffi::AnyBuffer c, ffi::AnyBuffer words, ffi::AnyBuffer slot,
                 ffi::AnyBuffer delay, ffi::AnyBuffer indptr, ffi::AnyBuffer indices, ffi::Result<ffi::AnyBuffer> out,
                 int64_t n_pre, int64_t fanout, int64_t first) {
  auto dims = c.dimensions();
  if (dims.size() < 2) return ffi::Error::InvalidArgument("outer: c needs a depth and a size");
  const int64_t depth = dims[dims.size() - 2], n_post = dims[dims.size() - 1];
  Batch batch(dims.size() - 2);
  batch.with(value).with(c).with(words).with(slot).with(delay).with(indptr).with(indices).with(*out);
  if (!batch.ok()) return ffi::Error::InvalidArgument("outer: batch axes do not fit");
  return for_float_type(c.element_type(), {value.element_type(), out->element_type()}, [&](auto zero) {
    using T = decltype(zero);
    View<T> to(*out, batch);
    View<const T> from(c, batch), v(value, batch);
    Graphs graphs(slot, delay, indptr, indices, batch, fanout, depth, n_post);
    Words packed(words, batch, v.size());
    const bool one = to.size() == 1;
    if (!graphs.fit(n_pre) || !packed.fit() || first < 0 || v.size() < first + n_pre)
      return ffi::Error::InvalidArgument("outer: lengths do not fit");
    std::fill_n(to.data(), to.total(), T(0));
    batch.each([&](const Axes& b) {
      const Graph graph = graphs.at(b);
      if (one && graph.delay)
        outer_rows<T, true, true>(to.at(b), v.at(b), packed.at(b), first, n_pre, from.at(b), graph);
      if (one && !graph.delay)
        outer_rows<T, true, false>(to.at(b), v.at(b), packed.at(b), first, n_pre, from.at(b), graph);
      if (!one && graph.delay)
        outer_rows<T, false, true>(to.at(b), v.at(b), packed.at(b), first, n_pre, from.at(b), graph);
      if (!one && !graph.delay)
        outer_rows<T, false, false>(to.at(b), v.at(b), packed.at(b), first, n_pre, from.at(b), graph);
    });
    return ffi::Error::Success();
  });
}

}  // namespace
}  // namespace brainsim

BRAINSIM_HANDLER(brainsim_outer, brainsim::outer,
                 xla::ffi::Ffi::Bind()
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
