// out_j = value_i * c[s_j, post_j] for the synapses j of the rows i with value_i != 0, summed over all synapses where
// `out` has one entry and over the batch axes of size 1 of `out`; `outer_add` adds the sum over the whole
// batch to what is there.
#include "brainsim/outer.h"

#include "brainsim/handler.h"
#include "brainsim/operands.h"

namespace brainsim {
namespace {

ffi::Error outer_onto(ffi::ThreadPool pool, const void* base, ffi::AnyBuffer value, ffi::AnyBuffer c,
                      ffi::AnyBuffer words, ffi::AnyBuffer slot, ffi::AnyBuffer delay, ffi::AnyBuffer indptr,
                      ffi::AnyBuffer indices, ffi::Result<ffi::AnyBuffer> out, int64_t n_pre, int64_t fanout,
                      int64_t first) {
  auto dims = c.dimensions();
  if (dims.size() < 2) return ffi::Error::InvalidArgument("outer: c needs a depth and a size");
  const int64_t depth = dims[dims.size() - 2], n_post = dims[dims.size() - 1];
  Batch batch(dims.size() - 2);
  batch.with(value).with(c).with(words).with(slot).with(delay).with(indptr).with(indices);
  if (base == nullptr) batch.with(*out);
  if (!batch.ok()) return ffi::Error::InvalidArgument("outer: batch axes do not fit");
  return for_float_type(c.element_type(), {value.element_type(), out->element_type()}, [&](auto zero) {
    using T = decltype(zero);
    View<T> to =
        base == nullptr ? View<T>(*out, batch) : View<T>(static_cast<T*>(out->untyped_data()), out->element_count());
    View<const T> from(c, batch), v(value, batch);
    Graphs graphs(slot, delay, indptr, indices, batch, fanout, depth, n_post, bytes_of(indices));
    Words packed(words, batch, v.size());
    if (!graphs.fit(n_pre) || !packed.fit() || first < 0 || v.size() < first + n_pre) {
      return ffi::Error::InvalidArgument("outer: lengths do not fit");
    }
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
    batch.each([&](const Axes& b) {
      const T* values = v.at(b) + first;
      elements.push_back({to.at(b), values, {values, packed.at(b), first}, from.at(b), graphs.at(b)});
    });
    outer(pool, elements, n_pre, to.size() == 1);
    return ffi::Error::Success();
  });
}

ffi::Error outer_call(ffi::ThreadPool pool, ffi::AnyBuffer value, ffi::AnyBuffer c, ffi::AnyBuffer words,
                      ffi::AnyBuffer slot, ffi::AnyBuffer delay, ffi::AnyBuffer indptr, ffi::AnyBuffer indices,
                      ffi::Result<ffi::AnyBuffer> out, int64_t n_pre, int64_t fanout, int64_t first) {
  return outer_onto(pool, nullptr, value, c, words, slot, delay, indptr, indices, out, n_pre, fanout, first);
}

ffi::Error outer_add_call(ffi::ThreadPool pool, ffi::AnyBuffer base, ffi::AnyBuffer value, ffi::AnyBuffer c,
                          ffi::AnyBuffer words, ffi::AnyBuffer slot, ffi::AnyBuffer delay, ffi::AnyBuffer indptr,
                          ffi::AnyBuffer indices, ffi::Result<ffi::AnyBuffer> out, int64_t n_pre, int64_t fanout,
                          int64_t first) {
  if (base.element_type() != out->element_type() || base.element_count() != out->element_count()) {
    return ffi::Error::InvalidArgument("outer_add: base does not fit");
  }
  if (base.element_count() == 0) return ffi::Error::Success();
  return outer_onto(pool, base.untyped_data(), value, c, words, slot, delay, indptr, indices, out, n_pre, fanout,
                    first);
}

// What both take.
template <typename Binding>
auto operands(Binding&& binding) {
  return std::move(binding)
      .template Arg<ffi::AnyBuffer>()  // value
      .template Arg<ffi::AnyBuffer>()  // c
      .template Arg<ffi::AnyBuffer>()  // words
      .template Arg<ffi::AnyBuffer>()  // slot
      .template Arg<ffi::AnyBuffer>()  // delay
      .template Arg<ffi::AnyBuffer>()  // indptr
      .template Arg<ffi::AnyBuffer>()  // indices
      .template Ret<ffi::AnyBuffer>()
      .template Attr<int64_t>("n_pre")
      .template Attr<int64_t>("fanout")
      .template Attr<int64_t>("first");
}

}  // namespace
}  // namespace brainsim

BRAINSIM_HANDLER(brainsim_outer, brainsim::outer_call,
                 brainsim::operands(xla::ffi::Ffi::Bind().Ctx<xla::ffi::ThreadPool>()));

BRAINSIM_HANDLER(brainsim_outer_add, brainsim::outer_add_call,
                 brainsim::operands(
                     xla::ffi::Ffi::Bind().Ctx<xla::ffi::ThreadPool>().Arg<xla::ffi::AnyBuffer>()));  // base, in place
