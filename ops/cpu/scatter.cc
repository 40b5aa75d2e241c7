// base[s_j, post_j] += value_i * weight_j over the rows i with value_i != 0, in place.
#include "brainsim/scatter.h"

#include <cstring>

#include "brainsim/handler.h"
#include "brainsim/operands.h"

namespace brainsim {
namespace {

ffi::Error scatter_call(ffi::ThreadPool pool, ffi::AnyBuffer base, ffi::AnyBuffer value, ffi::AnyBuffer weight,
                        ffi::AnyBuffer words, ffi::AnyBuffer slot, ffi::AnyBuffer delay, ffi::AnyBuffer indptr,
                        ffi::AnyBuffer indices, ffi::Result<ffi::AnyBuffer> out, int64_t n_pre, int64_t fanout,
                        int64_t first, int64_t sorted) {
  auto dims = base.dimensions();
  if (dims.size() < 2) return ffi::Error::InvalidArgument("scatter: base needs a depth and a size");
  const int64_t depth = dims[dims.size() - 2], n_post = dims[dims.size() - 1];
  Batch batch(dims.size() - 2);
  batch.with(base).with(value).with(weight).with(words).with(slot).with(delay).with(indptr).with(indices);
  if (!batch.ok()) return ffi::Error::InvalidArgument("scatter: batch axes do not fit");
  auto same = {value.element_type(), weight.element_type(), out->element_type()};
  return for_float_type(base.element_type(), same, [&](auto zero) {
    using T = decltype(zero);
    View<T> to(*out, batch);
    View<const T> from(base, batch), v(value, batch), w(weight, batch);
    Graphs graphs(slot, delay, indptr, indices, batch, fanout, depth, n_post, bytes_of(indices));
    Words packed(words, batch, v.size());
    if (!graphs.fit(n_pre) || !packed.fit() || first < 0 || v.size() < first + n_pre) {
      return ffi::Error::InvalidArgument("scatter: lengths do not fit");
    }
    if (to.data() != from.data() && to.total() > 0) std::memcpy(to.data(), from.data(), to.total() * sizeof(T));
    if (to.size() == 0) return ffi::Error::Success();
    std::vector<Scatter<T>> elements;
    batch.each([&](const Axes& b) {
      const T* values = v.at(b) + first;
      elements.push_back({to.at(b), values, {values, packed.at(b), first}, w.at(b), graphs.at(b)});
    });
    const bool apart = to.total() == to.size() * batch.size();
    scatter(pool, elements, n_pre, w.size() == 1, sorted != 0, apart);
    return ffi::Error::Success();
  });
}

}  // namespace
}  // namespace brainsim

BRAINSIM_HANDLER(brainsim_scatter, brainsim::scatter_call,
                 xla::ffi::Ffi::Bind()
                     .Ctx<xla::ffi::ThreadPool>()
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
