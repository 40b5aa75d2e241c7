// out_i = sum_j weight_j * c[s_j, post_j] for the rows i of a mask (all of them if it is empty), 0 for the others.
#include "brainsim/gather.h"

#include "brainsim/handler.h"
#include "brainsim/operands.h"

namespace brainsim {
namespace {

ffi::Error gather_call(ffi::ThreadPool pool, ffi::AnyBuffer c, ffi::AnyBuffer weight, ffi::AnyBuffer mask,
                       ffi::AnyBuffer slot, ffi::AnyBuffer delay, ffi::AnyBuffer indptr, ffi::AnyBuffer indices,
                       ffi::Result<ffi::AnyBuffer> out, int64_t n_pre, int64_t fanout, int64_t first) {
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
    Graphs graphs(slot, delay, indptr, indices, batch, fanout, depth, n_post, bytes_of(indices));
    if (!graphs.fit(n_pre) || first < 0 || to.size() < first + n_pre ||
        (rows.size() != 0 && rows.size() != to.size())) {
      return ffi::Error::InvalidArgument("gather: lengths do not fit");
    }
    std::vector<Gather<T>> elements;
    batch.each([&](const Axes& b) {
      T* rows_out = to.at(b) + first;
      std::fill(to.at(b), rows_out, T(0));
      std::fill(rows_out + n_pre, to.at(b) + to.size(), T(0));
      const bool* wanted = rows.size() == 0 ? nullptr : rows.at(b) + first;
      elements.push_back({rows_out, from.at(b), w.at(b), wanted, graphs.at(b)});
    });
    gather(pool, elements, n_pre, w.size() == 1);
    return ffi::Error::Success();
  });
}

}  // namespace
}  // namespace brainsim

BRAINSIM_HANDLER(brainsim_gather, brainsim::gather_call,
                 xla::ffi::Ffi::Bind()
                     .Ctx<xla::ffi::ThreadPool>()
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
