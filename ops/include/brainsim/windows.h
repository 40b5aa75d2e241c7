// Weights that places share: which units a window sees, element by element of a batch.
#ifndef BRAINSIM_WINDOWS_H_
#define BRAINSIM_WINDOWS_H_

#include <algorithm>
#include <cstdint>

#include "brainsim/batch.h"

namespace brainsim {

struct Window {
  int64_t h, w, ci, oh, ow, co, kh, kw, sy, sx, py, px, dy, dx, groups;
  int64_t first = 0, now = 0;  // unit of (0, 0, 0); place of what arrives at (0, 0, 0) in the ring, at the present slot

  static constexpr int kNumbers = 15;
  static Window of(const int64_t* x) {
    return {x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7], x[8], x[9], x[10], x[11], x[12], x[13], x[14]};
  }

  BRAINSIM_BOTH int64_t n_pre() const { return h * w * ci; }
  BRAINSIM_BOTH int64_t n_post() const { return oh * ow * co; }
  BRAINSIM_BOTH int64_t in() const { return ci / groups; }
  BRAINSIM_BOTH int64_t out() const { return co / groups; }
  BRAINSIM_BOTH int64_t n_weight() const { return kh * kw * in() * co; }
  bool good() const {
    const bool whole = h > 0 && w > 0 && ci > 0 && oh > 0 && ow > 0 && co > 0 && kh > 0 && kw > 0 && sy > 0 && sx > 0;
    return whole && dy > 0 && dx > 0 && py >= 0 && px >= 0 && groups > 0 && ci % groups == 0 && co % groups == 0 &&
           n_pre() < int64_t{1} << 31 && n_post() < int64_t{1} << 31;
  }

  // Calls f(ty) for the place along one axis that sees `y` through tap k, if there is one.
  template <typename F>
  [[gnu::always_inline]] BRAINSIM_BOTH static void seen(int64_t y, int64_t k, int64_t pad, int64_t step, int64_t stride,
                                                        int64_t places, F&& f) {
    int64_t t = y + pad - k * step;
    if (t < 0) return;
    if (stride != 1) {
      if (t % stride != 0) return;
      t /= stride;
    }
    if (t < places) f(t);
  }

  // Calls f(place, weight) for every run of unit u: the first of `out()` places of what arrives, of as many weights.
  template <typename F>
  [[gnu::always_inline]] BRAINSIM_BOTH void runs(uint32_t u, F&& f) const {
    const auto channels = static_cast<uint32_t>(ci), width = static_cast<uint32_t>(w);
    const uint32_t p = u / channels;
    const int64_t c = u - p * channels, y = p / width, x = p - y * width;
    const int64_t group = groups == 1 ? 0 : c / in(), from = (c - group * in()) * co + group * out();
    const int64_t bottom = y + py, right = x + px, rise = dy * (kh - 1), run = dx * (kw - 1);
    if (sy == 1 && sx == 1 && bottom >= rise && bottom < oh && right >= run && right < ow) {  // all of it within
      int64_t row = (bottom * ow + right) * co + group * out(), weight = from;
      for (int64_t ky = 0; ky < kh; ++ky, row -= dy * ow * co) {
        int64_t place = row;
        for (int64_t kx = 0; kx < kw; ++kx, place -= dx * co, weight += in() * co) f(place, weight);
      }
      return;
    }
    for (int64_t ky = 0; ky < kh; ++ky) {
      seen(y, ky, py, dy, sy, oh, [&](int64_t ty) {
        for (int64_t kx = 0; kx < kw; ++kx) {
          seen(x, kx, px, dx, sx, ow,
               [&](int64_t tx) { f((ty * ow + tx) * co + group * out(), (ky * kw + kx) * in() * co + from); });
        }
      });
    }
  }

  // The plane of what is sent with its border, as far as a window sees it.
  int64_t plane_h() const { return (oh - 1) * sy + (kh - 1) * dy + 1; }
  int64_t plane_w() const { return (ow - 1) * sx + (kw - 1) * dx + 1; }

  // Calls f(unit, place in the plane, units) for every stretch of units in a row of the plane.
  template <typename F>
  void rows(F&& f) const {
    const int64_t n = std::min(w, plane_w() - px);
    for (int64_t y = 0; n > 0 && y < std::min(h, plane_h() - py); ++y) {
      f(y * w * ci, ((y + py) * plane_w() + px) * ci, n * ci);
    }
  }
};

// The windows of all elements of a batch, which differ in their slot only; the operand slot ends the list.
class Windows {
 public:
  template <typename Buffer>
  Windows(const Buffer& slot, const Batch& batch, const Window& window, bool known, int64_t depth, int64_t n_post)
      : slot_(slot, batch), window_(window), known_(known), depth_(depth), n_post_(n_post) {}

  bool fit(int64_t n_value) const {
    return known_ && window_.good() && window_.n_post() == n_post_ && slot_.size() == 1 && window_.first >= 0 &&
           n_value >= window_.first + window_.n_pre();
  }
  bool fit_weight(int64_t n) const { return n == 1 || n == window_.n_weight(); }
  const Window& window() const { return window_; }
  BRAINSIM_BOTH int64_t n_pre() const { return window_.n_pre(); }
  BRAINSIM_BOTH int64_t first() const { return window_.first; }

  template <typename At>
  BRAINSIM_BOTH Window at(const At& coordinates) const {
    Window window = window_;
    const int64_t s = depth_ > 0 ? *slot_.at(coordinates) % depth_ : 0;
    window.now = (s < 0 ? s + depth_ : s) * n_post_;
    return window;
  }

 private:
  View<const int32_t> slot_;
  Window window_;
  bool known_;
  int64_t depth_, n_post_;
};

}  // namespace brainsim

#endif  // BRAINSIM_WINDOWS_H_
