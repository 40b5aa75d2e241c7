// out_i = sum_j weight_j * c[s_j, post_j] for the rows i of a mask (all of them if it is empty), 0 for the others.
#include "brainsim/gather.h"

#include "brainsim/calls.h"

namespace brainsim {
namespace {

ffi::Error gather_call(ffi::ThreadPool pool, ffi::AnyBuffer c, ffi::AnyBuffer weight, ffi::AnyBuffer mask,
                       ffi::AnyBuffer slot, ffi::AnyBuffer delay, ffi::AnyBuffer indptr, ffi::AnyBuffer indices,
                       ffi::Result<ffi::AnyBuffer> out, int64_t n_pre, int64_t fanout, int64_t first) {
  const Stored stored{slot, delay, indptr, indices, n_pre, fanout, first};
  return for_gather("gather", stored, c, weight, mask, out, [&](const auto& call) {
    using T = std::decay_t<decltype(*call.out.data())>;
    std::vector<Gather<T>> elements;
    call.batch.each([&](const Axes& b) {
      T *units = call.out.at(b), *rows = units + first;
      std::fill(units, rows, T(0));
      std::fill(rows + n_pre, units + call.out.size(), T(0));
      const bool* wanted = call.mask.size() == 0 ? nullptr : call.mask.at(b) + first;
      elements.push_back({rows, call.c.at(b), call.weight.at(b), wanted, call.rows.at(b)});
    });
    gather(pool, elements, n_pre, call.weight.size() == 1);
    return ffi::Error::Success();
  });
}

}  // namespace
}  // namespace brainsim

BRAINSIM_HANDLER(brainsim_gather, brainsim::gather_call,
                 brainsim::take_stored<7>(xla::ffi::Ffi::Bind().Ctx<xla::ffi::ThreadPool>()));
