// base[s_j, post_j] += value_i * weight_j over the rows i with value_i != 0, in place.
#include <cstring>

#include "brainsim/batch.h"
#include "brainsim/graph.h"
#include "brainsim/handler.h"

namespace brainsim {
namespace {

template <typename T, bool kOne, bool kDelay>
void scatter_rows(T* out, const T* value, const uint32_t* words, int64_t first, int64_t n_pre, const T* weight,
                  const Graph& graph) {
  auto send = [&](int64_t i) {
    if constexpr (kOne) {
      const T amount = value[first + i] * weight[0];
      graph.for_row<kDelay>(i, [&](int64_t, int64_t at) { out[at] += amount; });
    } else {
      const T amount = value[first + i];
      graph.for_row<kDelay>(i, [&](int64_t j, int64_t at) { out[at] += amount * weight[j]; });
    }
  };
  // one row behind the search, so that the next row is on its way from memory while this one is sent
  int64_t waiting = -1;
  for_active(value, words, first, n_pre, [&](int64_t i) {
    graph.prefetch(i, kOne ? nullptr : weight);
    if (waiting >= 0) send(waiting);
    waiting = i;
  });
  if (waiting >= 0) send(waiting);
}

ffi::Error scatter(ffi::AnyBuffer base, ffi::AnyBuffer value, ffi::AnyBuffer weight, ffi::AnyBuffer words,
                   ffi::AnyBuffer slot, ffi::AnyBuffer delay, ffi::AnyBuffer indptr, ffi::AnyBuffer indices,
                   ffi::Result<ffi::AnyBuffer> out, int64_t n_pre, int64_t fanout, int64_t first) {
  auto dims = base.dimensions();
  if (dims.size() < 2) return ffi::Error::InvalidArgument("scatter: base needs a depth and a size");
  const int64_t depth = dims[dims.size() - 2], n_post = dims[dims.size() - 1];
  Batch batch(dims.size() - 2);
  batch.with(base).with(value).with(weight).with(words).with(slot).with(delay).with(indptr).with(indices);
  if (!batch.ok()) return ffi::Error::InvalidArgument("scatter: batch axes do not fit");
  return for_float_type(
      base.element_type(), {value.element_type(), weight.element_type(), out->element_type()}, [&](auto zero) {
        using T = decltype(zero);
        View<T> to(*out, batch);
        View<const T> from(base, batch), v(value, batch), w(weight, batch);
        Graphs graphs(slot, delay, indptr, indices, batch, fanout, depth, n_post);
        Words packed(words, batch, v.size());
        const bool one = w.size() == 1;
        if (!graphs.fit(n_pre) || !packed.fit() || first < 0 || v.size() < first + n_pre)
          return ffi::Error::InvalidArgument("scatter: lengths do not fit");
        if (to.data() != from.data() && to.total() > 0) std::memcpy(to.data(), from.data(), to.total() * sizeof(T));
        if (to.size() == 0) return ffi::Error::Success();
        batch.each([&](const Axes& b) {
          const Graph graph = graphs.at(b);
          if (one && graph.delay)
            scatter_rows<T, true, true>(to.at(b), v.at(b), packed.at(b), first, n_pre, w.at(b), graph);
          if (one && !graph.delay)
            scatter_rows<T, true, false>(to.at(b), v.at(b), packed.at(b), first, n_pre, w.at(b), graph);
          if (!one && graph.delay)
            scatter_rows<T, false, true>(to.at(b), v.at(b), packed.at(b), first, n_pre, w.at(b), graph);
          if (!one && !graph.delay)
            scatter_rows<T, false, false>(to.at(b), v.at(b), packed.at(b), first, n_pre, w.at(b), graph);
        });
        return ffi::Error::Success();
      });
}

}  // namespace
}  // namespace brainsim

BRAINSIM_HANDLER(brainsim_scatter, brainsim::scatter,
                 xla::ffi::Ffi::Bind()
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
                     .Attr<int64_t>("first"));
