// The event operators on convolutions: weights that places share. What they are is written down in
// brainsim/events/_pure.py.
#include "brainsim/convolution.h"

#include <cstring>

#include "brainsim/calls.h"

namespace brainsim {
namespace {

// The windows of all elements of a batch, which differ in their slot only.
class Windows {
 public:
  Windows(const ffi::AnyBuffer& slot, const Batch& batch, const Window& window, bool known, int64_t depth,
          int64_t n_post)
      : slot_(slot, batch), window_(window), known_(known), depth_(depth), n_post_(n_post) {}

  bool fit(int64_t n_value) const {
    return known_ && window_.good() && window_.n_post() == n_post_ && slot_.size() == 1 && window_.first >= 0 &&
           n_value >= window_.first + window_.n_pre();
  }
  bool fit_weight(int64_t n) const { return n == 1 || n == window_.n_weight(); }
  int64_t first() const { return window_.first; }

  Window at(const Axes& b) const {
    Window window = window_;
    const int64_t s = depth_ > 0 ? *slot_.at(b) % depth_ : 0;
    window.now = (s < 0 ? s + depth_ : s) * n_post_;
    return window;
  }

 private:
  View<const int32_t> slot_;
  Window window_;
  bool known_;
  int64_t depth_, n_post_;
};

struct Shared {
  ffi::AnyBuffer slot;
  ffi::Span<const int64_t> window;
  int64_t first;

  void widen(Batch& batch) const { batch.with(slot); }
  Windows rows(const Batch& batch, int64_t depth, int64_t n_post) const {
    const bool known = window.size() == Window::kNumbers;
    Window w = known ? Window::of(window.begin()) : Window{};
    w.first = first;
    return {slot, batch, w, known, depth, n_post};
  }
};

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
  const Shared shared{slot, window, first};
  return for_scatter("convolved scatter", shared, base, value, weight, words, out, [&](const auto& call) {
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
  const Shared shared{slot, window, first};
  return for_gather("convolved gather", shared, c, weight, mask, out, [&](const auto& call) {
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
  const Shared shared{slot, window, first};
  return for_outer("convolved outer", shared, value, c, words, out, false, [&](const auto& call) {
    using T = std::decay_t<decltype(*call.out.data())>;
    std::fill_n(call.out.data(), call.out.total(), T(0));
    const auto elements = elements_of<T>(call, call.c);
    if (!elements.empty()) convolved_outer(pool, elements, single(elements[0].window, call.out.size()));
    return ffi::Error::Success();
  });
}

template <int kArgs>
auto take_shared() {
  return take<kArgs>(xla::ffi::Ffi::Bind().Ctx<xla::ffi::ThreadPool>())
      .template Ret<ffi::AnyBuffer>()
      .template Attr<ffi::Span<const int64_t>>("window")
      .template Attr<int64_t>("first");
}

}  // namespace
}  // namespace brainsim

BRAINSIM_HANDLER(brainsim_convolved_scatter, brainsim::scatter, brainsim::take_shared<5>());  // base in place

BRAINSIM_HANDLER(brainsim_convolved_gather, brainsim::gather, brainsim::take_shared<4>());

BRAINSIM_HANDLER(brainsim_convolved_outer, brainsim::outer, brainsim::take_shared<4>());
