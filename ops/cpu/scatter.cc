// base[s_j, post_j] += value_i * weight_j over the rows i with value_i != 0, in place.
#include "brainsim/scatter.h"

#include <cstring>

#include "brainsim/calls.h"

namespace brainsim {
namespace {

ffi::Error scatter_call(ffi::ThreadPool pool, ffi::AnyBuffer base, ffi::AnyBuffer value, ffi::AnyBuffer weight,
                        ffi::AnyBuffer words, ffi::AnyBuffer slot, ffi::AnyBuffer delay, ffi::AnyBuffer indptr,
                        ffi::AnyBuffer indices, ffi::Result<ffi::AnyBuffer> out, int64_t n_pre, int64_t fanout,
                        int64_t first, int64_t sorted) {
  const Stored stored{slot, delay, indptr, indices, n_pre, fanout, first};
  return for_scatter("scatter", stored, base, value, weight, words, out, [&](const auto& call) {
    using T = std::decay_t<decltype(*call.out.data())>;
    const int64_t total = call.out.total();
    if (call.out.data() != call.base.data() && total > 0) {
      std::memcpy(call.out.data(), call.base.data(), total * sizeof(T));
    }
    if (call.out.size() == 0) return ffi::Error::Success();
    std::vector<Scatter<T>> elements;
    call.batch.each([&](const Axes& b) {
      const T* values = call.value.at(b) + first;
      const Active<T> active{values, call.words.at(b), first};
      elements.push_back({call.out.at(b), values, active, call.weight.at(b), call.rows.at(b)});
    });
    const bool apart = total == call.out.size() * call.batch.size();
    scatter(pool, elements, n_pre, call.weight.size() == 1, sorted != 0, apart);
    return ffi::Error::Success();
  });
}

}  // namespace
}  // namespace brainsim

BRAINSIM_HANDLER(brainsim_scatter, brainsim::scatter_call,
                 brainsim::take_stored<8>(xla::ffi::Ffi::Bind().Ctx<xla::ffi::ThreadPool>())  // base in place
                     .Attr<int64_t>("sorted_rows"));
