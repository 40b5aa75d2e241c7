// The event operators on convolutions: weights that places share. What they are is written down in
// brainsim/events/_pure.py.
#include "brainsim/convolution.h"

#include <cstring>

#include "brainsim/calls.h"

namespace brainsim {
namespace {

// One weight for all, which a kernel of one weight may be as well.
bool single(const Window& window, int64_t n_weight) { return n_weight == 1 && window.n_weight() != 1; }

template <typename T, typename Call>
std::vector<Convolved<T>> elements_of(const Call& call, const View<const T>& from) {
  std::vector<Convolved<T>> elements;
  call.batch.each([&](const Axes& b) {
    const Window window = call.rows.at(b);
    const T* values = call.value.at(b) + window.first;
    const Active<T> active{values, call.words.at(b), window.first};
    elements.push_back({call.out.at(b), values, active, from.at(b), window});
  });
  return elements;
}

ffi::Error scatter(ffi::ThreadPool pool, ffi::AnyBuffer base, ffi::AnyBuffer value, ffi::AnyBuffer weight,
                   ffi::AnyBuffer words, ffi::AnyBuffer slot, ffi::Result<ffi::AnyBuffer> out,
                   ffi::Span<const int64_t> window, int64_t first) {
  return for_scatter("convolved scatter", Shared{slot, window, first}, base, value, weight, words, out,
                     [&](const auto& call) {
                       using T = std::decay_t<decltype(*call.out.data())>;
                       const int64_t total = call.out.total();
                       if (call.out.data() != call.base.data() && total > 0) {
                         std::memcpy(call.out.data(), call.base.data(), total * sizeof(T));
                       }
                       const auto elements = elements_of<T>(call, call.weight);
                       if (elements.empty() || call.out.size() == 0) return ffi::Error::Success();
                       const bool one = single(elements[0].window, call.weight.size());
                       convolved_scatter(pool, elements, one, total == call.out.size() * call.batch.size());
                       return ffi::Error::Success();
                     });
}

ffi::Error gather(ffi::ThreadPool pool, ffi::AnyBuffer c, ffi::AnyBuffer weight, ffi::AnyBuffer mask,
                  ffi::AnyBuffer slot, ffi::Result<ffi::AnyBuffer> out, ffi::Span<const int64_t> window,
                  int64_t first) {
  return for_gather("convolved gather", Shared{slot, window, first}, c, weight, mask, out, [&](const auto& call) {
    using T = std::decay_t<decltype(*call.out.data())>;
    std::vector<ConvolvedBack<T>> elements;
    call.batch.each([&](const Axes& b) {
      const Window w = call.rows.at(b);
      T* const units = call.out.at(b);
      std::fill(units, units + w.first, T(0));
      std::fill(units + w.first + w.n_pre(), units + call.out.size(), T(0));
      const bool* wanted = call.mask.size() == 0 ? nullptr : call.mask.at(b) + w.first;
      elements.push_back({units + w.first, call.c.at(b), call.weight.at(b), wanted, w});
    });
    if (!elements.empty()) convolved_gather(pool, elements, single(elements[0].window, call.weight.size()));
    return ffi::Error::Success();
  });
}

ffi::Error outer(ffi::ThreadPool pool, ffi::AnyBuffer value, ffi::AnyBuffer c, ffi::AnyBuffer words,
                 ffi::AnyBuffer slot, ffi::Result<ffi::AnyBuffer> out, ffi::Span<const int64_t> window, int64_t first) {
  return for_outer("convolved outer", Shared{slot, window, first}, value, c, words, out, false, [&](const auto& call) {
    using T = std::decay_t<decltype(*call.out.data())>;
    std::fill_n(call.out.data(), call.out.total(), T(0));
    const auto elements = elements_of<T>(call, call.c);
    if (!elements.empty()) convolved_outer(pool, elements, single(elements[0].window, call.out.size()));
    return ffi::Error::Success();
  });
}

}  // namespace
}  // namespace brainsim

#define BRAINSIM_IN_POOL xla::ffi::Ffi::Bind().Ctx<xla::ffi::ThreadPool>()

BRAINSIM_HANDLER(brainsim_convolved_scatter, brainsim::scatter,
                 brainsim::take_shared<5>(BRAINSIM_IN_POOL));  // base in place

BRAINSIM_HANDLER(brainsim_convolved_gather, brainsim::gather, brainsim::take_shared<4>(BRAINSIM_IN_POOL));

BRAINSIM_HANDLER(brainsim_convolved_outer, brainsim::outer, brainsim::take_shared<4>(BRAINSIM_IN_POOL));
