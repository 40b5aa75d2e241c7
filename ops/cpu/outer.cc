// out_j = value_i * c[s_j, post_j] for the synapses j of the rows i with value_i != 0, summed over all synapses where
// `out` has one entry and over the batch axes of size 1 of `out`; `outer_add` adds the sum over the whole
// batch to what is there.
#include "brainsim/outer.h"

#include "brainsim/calls.h"

namespace brainsim {
namespace {

// `base`: what the sum is added to; null where it begins with zeros.
ffi::Error outer_onto(ffi::ThreadPool pool, const void* base, const Stored& stored, ffi::AnyBuffer value,
                      ffi::AnyBuffer c, ffi::AnyBuffer words, ffi::Result<ffi::AnyBuffer> out) {
  return for_outer("outer", stored, value, c, words, out, base != nullptr, [&](const auto& call) {
    using T = std::decay_t<decltype(*call.out.data())>;
    const View<T>& to = call.out;
    const int64_t total = to.total(), piece = 1 << 18;
    const T* old = static_cast<const T*>(base);
    parallel_for(pool, old == to.data() ? 0 : (total + piece - 1) / piece, [&](int64_t k) {
      const int64_t begin = k * piece, n = std::min(piece, total - begin);
      if (old == nullptr) {
        std::fill_n(to.data() + begin, n, T(0));
      } else {
        std::copy_n(old + begin, n, to.data() + begin);
      }
    });
    std::vector<Outer<T>> elements;
    call.batch.each([&](const Axes& b) {
      const T* values = call.value.at(b) + stored.first;
      const Active<T> active{values, call.words.at(b), stored.first};
      elements.push_back({to.at(b), values, active, call.c.at(b), call.rows.at(b)});
    });
    outer(pool, elements, stored.n_pre, to.size() == 1);
    return ffi::Error::Success();
  });
}

ffi::Error outer_call(ffi::ThreadPool pool, ffi::AnyBuffer value, ffi::AnyBuffer c, ffi::AnyBuffer words,
                      ffi::AnyBuffer slot, ffi::AnyBuffer delay, ffi::AnyBuffer indptr, ffi::AnyBuffer indices,
                      ffi::Result<ffi::AnyBuffer> out, int64_t n_pre, int64_t fanout, int64_t first) {
  const Stored stored{slot, delay, indptr, indices, n_pre, fanout, first};
  return outer_onto(pool, nullptr, stored, value, c, words, out);
}

ffi::Error outer_add_call(ffi::ThreadPool pool, ffi::AnyBuffer base, ffi::AnyBuffer value, ffi::AnyBuffer c,
                          ffi::AnyBuffer words, ffi::AnyBuffer slot, ffi::AnyBuffer delay, ffi::AnyBuffer indptr,
                          ffi::AnyBuffer indices, ffi::Result<ffi::AnyBuffer> out, int64_t n_pre, int64_t fanout,
                          int64_t first) {
  if (base.element_type() != out->element_type() || base.element_count() != out->element_count()) {
    return ffi::Error::InvalidArgument("outer_add: base does not fit");
  }
  if (base.element_count() == 0) return ffi::Error::Success();
  const Stored stored{slot, delay, indptr, indices, n_pre, fanout, first};
  return outer_onto(pool, base.untyped_data(), stored, value, c, words, out);
}

}  // namespace
}  // namespace brainsim

BRAINSIM_HANDLER(brainsim_outer, brainsim::outer_call,
                 brainsim::take_stored<7>(xla::ffi::Ffi::Bind().Ctx<xla::ffi::ThreadPool>()));

BRAINSIM_HANDLER(brainsim_outer_add, brainsim::outer_add_call,
                 brainsim::take_stored<8>(xla::ffi::Ffi::Bind().Ctx<xla::ffi::ThreadPool>()));  // base in place
