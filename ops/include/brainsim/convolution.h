// Convolutions from units in the order (y, x, channel) to such units, weights (ky, kx, channel in of its group, channel
// out): scatter, gather and outer of the form of brainsim/events/_pure.py.
//
// Two ways. By events: every active unit sends a run of weights, the channels of its group, to each place that sees it,
// so that the cost follows the events. Densely: as products of tiles, places by channels, whose sums stay in registers.
// How many units are active decides, element by element of a batch, so that nothing else changes a bit.
#ifndef BRAINSIM_CONVOLUTION_H_
#define BRAINSIM_CONVOLUTION_H_

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#include "brainsim/graph.h"
#include "brainsim/parallel.h"
#include "brainsim/random.h"

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

// 32 bytes of numbers, by the vector units of whatever processor; never handed to a function or returned by one that is
// not part of its caller.
template <typename T>
struct Vector {
  typedef T Of [[gnu::vector_size(32), gnu::aligned(sizeof(T)), gnu::may_alias]];
  typedef T Half [[gnu::vector_size(16), gnu::aligned(sizeof(T)), gnu::may_alias]];
  static constexpr int kLanes = 32 / sizeof(T);
};

// Four rows by two vectors of sums. Columns are channels.
template <typename T>
struct Tile {
  using V = typename Vector<T>::Of;
  static constexpr int kRows = 4, kVectors = 2, kColumns = kVectors * Vector<T>::kLanes;
  T sum[kRows][kColumns];

  // The sums of a[r][k] b[k][column] over k < n, and over blocks of them: row r of a begins at a + at[r], k is `next`
  // entries further; b has `width` entries from k to k + 1. Blocks are `a_block` and `b_block` apart.
  [[gnu::always_inline]] void multiply(const T* a, const int64_t* at, int64_t next, const T* b, int64_t width,
                                       int64_t n, int64_t blocks, int64_t a_block, int64_t b_block) {
    V s00 = {}, s01 = {}, s10 = {}, s11 = {}, s20 = {}, s21 = {}, s30 = {}, s31 = {};
    const T *a0 = a + at[0], *a1 = a + at[1], *a2 = a + at[2], *a3 = a + at[3];
    for (int64_t block = 0; block < blocks; ++block) {
      const T* to = b + block * b_block;
      int64_t k = block * a_block;
      for (int64_t m = 0; m < n; ++m, k += next, to += width) {
        const V b0 = *reinterpret_cast<const V*>(to), b1 = *reinterpret_cast<const V*>(to + Vector<T>::kLanes);
        const T x0 = a0[k], x1 = a1[k], x2 = a2[k], x3 = a3[k];
        s00 += x0 * b0, s01 += x0 * b1, s10 += x1 * b0, s11 += x1 * b1;
        s20 += x2 * b0, s21 += x2 * b1, s30 += x3 * b0, s31 += x3 * b1;
      }
    }
    V* const all = reinterpret_cast<V*>(&sum[0][0]);
    all[0] = s00, all[1] = s01, all[2] = s10, all[3] = s11, all[4] = s20, all[5] = s21, all[6] = s30, all[7] = s31;
  }

  [[gnu::always_inline]] void add_to(T* out, const int64_t* at, int64_t rows, int64_t columns) const {
    for (int64_t r = 0; r < rows; ++r) {
      T* const row = out + at[r];
      for (int64_t k = 0; k < columns; ++k) row[k] += sum[r][k];
    }
  }
};

// Where the rows of a tile begin, `step` apart; those beyond `rows` are the first once more.
inline void row_places(int64_t begin, int64_t step, int64_t rows, int64_t* at) {
  for (int64_t r = 0; r < 4; ++r) at[r] = begin + (r < rows ? r * step : 0);
}

// Memory of a thread that is kept from call to call: several arrays at a time.
template <typename T>
std::vector<T>& kept(int which) {
  static thread_local std::vector<T> arrays[3];
  return arrays[which];
}

// The weights of one group, of tap after tap [channel in][a tile's columns], for channels out from..from+columns; or,
// `flipped`, with channels in and out exchanged.
template <typename T>
void pack_weights(const Window& s, const T* weight, int64_t group, int64_t from, int64_t columns, bool flipped,
                  std::vector<T>& packed) {
  const int64_t terms = flipped ? s.out() : s.in(), taps = s.kh * s.kw, width = Tile<T>::kColumns;
  packed.assign(taps * terms * width, T(0));
  for (int64_t tap = 0; tap < taps; ++tap) {
    for (int64_t k = 0; k < terms; ++k) {
      T* const to = packed.data() + (tap * terms + k) * width;
      for (int64_t c = 0; c < columns; ++c) {
        const int64_t in = flipped ? from + c : k, out = flipped ? k : from + c;
        to[c] = weight[(tap * s.in() + in) * s.co + group * s.out() + out];
      }
    }
  }
}

// Calls f(group, first column, columns) for the tiles of all channels, `of` in a group.
template <typename T, typename F>
[[gnu::always_inline]] inline void for_columns(const Window& s, int64_t of, F&& f) {
  for (int64_t group = 0; group < s.groups; ++group) {
    for (int64_t from = 0; from < of; from += Tile<T>::kColumns) {
      f(group, from, std::min<int64_t>(Tile<T>::kColumns, of - from));
    }
  }
}

template <typename T>
const T* plane_of(const Window& s, const T* value, std::vector<T>& plane) {
  plane.assign(s.plane_h() * s.plane_w() * s.ci, T(0));
  s.rows([&](int64_t unit, int64_t at, int64_t n) { std::copy_n(value + unit, n, plane.data() + at); });
  return plane.data();
}

// out += the convolution of `value`.
template <typename T>
BRAINSIM_CLONES void dense_scatter(const Window& s, const T* value, const T* weight, T* out) {
  const T* const plane = plane_of(s, value, kept<T>(0));
  const int64_t n = s.in(), width = Tile<T>::kColumns, line = s.plane_w() * s.ci;
  for_columns<T>(s, s.out(), [&](int64_t group, int64_t from, int64_t columns) __attribute__((always_inline)) {
    std::vector<T>& packed = kept<T>(1);
    pack_weights(s, weight, group, from, columns, false, packed);
    for (int64_t ty = 0; ty < s.oh; ++ty) {
      for (int64_t tx = 0; tx < s.ow; tx += 4) {
        const int64_t rows = std::min<int64_t>(4, s.ow - tx);
        int64_t reads[4], writes[4];
        row_places(ty * s.sy * line + tx * s.sx * s.ci + group * n, s.sx * s.ci, rows, reads);
        row_places((ty * s.ow + tx) * s.co + group * s.out() + from, s.co, rows, writes);
        for (int64_t ky = 0; ky < s.kh; ++ky) {
          Tile<T> tile;
          const T* const b = packed.data() + ky * s.kw * n * width;
          tile.multiply(plane + ky * s.dy * line, reads, 1, b, width, n, s.kw, s.dx * s.ci, n * width);
          tile.add_to(out, writes, rows, columns);
        }
      }
    }
  });
}

// What reaches every unit back from `c`, into `out`.
template <typename T>
BRAINSIM_CLONES void dense_gather(const Window& s, const T* c, const T* weight, T* out) {
  std::vector<T>& plane = kept<T>(0);
  plane.assign(s.plane_h() * s.plane_w() * s.ci, T(0));
  const int64_t n = s.out(), width = Tile<T>::kColumns, line = s.plane_w() * s.ci;
  for_columns<T>(s, s.in(), [&](int64_t group, int64_t from, int64_t columns) __attribute__((always_inline)) {
    std::vector<T>& packed = kept<T>(1);
    pack_weights(s, weight, group, from, columns, true, packed);
    for (int64_t ty = 0; ty < s.oh; ++ty) {
      for (int64_t tx = 0; tx < s.ow; tx += 4) {
        const int64_t rows = std::min<int64_t>(4, s.ow - tx);
        int64_t reads[4], writes[4];
        row_places((ty * s.ow + tx) * s.co + group * n, s.co, rows, reads);
        for (int64_t tap = 0; tap < s.kh * s.kw; ++tap) {
          const int64_t y = ty * s.sy + tap / s.kw * s.dy, x = tx * s.sx + tap % s.kw * s.dx;
          row_places(y * line + x * s.ci + group * s.in() + from, s.sx * s.ci, rows, writes);
          Tile<T> tile;
          tile.multiply(c, reads, 1, packed.data() + tap * n * width, width, n, 1, 0, 0);
          tile.add_to(plane.data(), writes, rows, columns);
        }
      }
    }
  });
  std::fill_n(out, s.n_pre(), T(0));
  s.rows([&](int64_t unit, int64_t at, int64_t n_units) { std::copy_n(plane.data() + at, n_units, out + unit); });
}

// out += the sums of value times c over the places that share a weight.
template <typename T>
BRAINSIM_CLONES void dense_outer(const Window& s, const T* value, const T* c, T* out) {
  const T* const plane = plane_of(s, value, kept<T>(0));
  std::vector<T>& arrived = kept<T>(1);
  arrived.assign(s.n_post() + Tile<T>::kColumns, T(0));  // so that the last tile may read on
  std::copy_n(c, s.n_post(), arrived.data());
  const int64_t line = s.plane_w() * s.ci;
  for_columns<T>(s, s.out(), [&](int64_t group, int64_t from, int64_t columns) __attribute__((always_inline)) {
    for (int64_t tap = 0; tap < s.kh * s.kw; ++tap) {
      const T* const seen = plane + tap / s.kw * s.dy * line + tap % s.kw * s.dx * s.ci + group * s.in();
      for (int64_t k = 0; k < s.in(); k += 4) {
        const int64_t rows = std::min<int64_t>(4, s.in() - k), column = group * s.out() + from;
        int64_t reads[4], writes[4];
        row_places(k, 1, rows, reads);
        row_places((tap * s.in() + k) * s.co + column, s.co, rows, writes);
        Tile<T> tile;
        tile.multiply(seen, reads, s.sx * s.ci, arrived.data() + column, s.co, s.ow, s.oh, s.sy * line, s.ow * s.co);
        tile.add_to(out, writes, rows, columns);
      }
    }
  });
}

// Active units that are sent one by one; more are sent densely, by tiles over `columns` of a group, sums of `terms`.
// Both in hundredths of a nanosecond, as measured for many shapes; `one` weight for all has no tiles.
template <typename T>
int64_t most_events(const Window& s, int64_t columns, int64_t terms, bool one) {
  if (one) return s.n_pre();
  constexpr int64_t kWide = Tile<T>::kColumns;
  const int64_t densely = s.oh * s.ow * s.groups * ((columns + kWide - 1) / kWide) * (30 * terms + 45);
  return std::min(s.n_pre(), densely / (90 + 88 * s.out() / kWide));
}

// to[i] += amount * x[i] for i < n, a vector at a time; compilers leave short rows of a known length to scalars.
template <typename T>
[[gnu::always_inline]] inline void add_multiple(T* to, T amount, const T* x, int64_t n) {
  using V = typename Vector<T>::Of;
  using Half = typename Vector<T>::Half;
  constexpr int kLanes = Vector<T>::kLanes;
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    *reinterpret_cast<V*>(to + i) += amount * *reinterpret_cast<const V*>(x + i);
  }
  if (i + kLanes / 2 <= n) {
    *reinterpret_cast<Half*>(to + i) += amount * *reinterpret_cast<const Half*>(x + i);
    i += kLanes / 2;
  }
  for (; i < n; ++i) to[i] += amount * x[i];
}

// `kRun`: channels of a run, 0 where they are not known; `kOne`: one weight for all.
template <int kRun, bool kOne, typename T>
BRAINSIM_CLONES void send_rows(const Window& window, const T* value, const int32_t* rows, int64_t n_rows,
                               const T* weight, T* out) {
  const Window s = window;  // a copy, which no store into `out` can change
  const int64_t n = kRun > 0 ? kRun : s.out();
  for (int64_t k = 0; k < n_rows; ++k) {
    const T amount = value == nullptr ? T(1) : value[rows[k]];
    s.runs(rows[k], [&](int64_t place, int64_t from) __attribute__((always_inline)) {
      if (!kOne) return add_multiple(out + place, amount, weight + from, n);
      for (int64_t i = 0; i < n; ++i) out[place + i] += amount * weight[0];
    });
  }
}

template <int kRun, bool kOne, typename T>
BRAINSIM_CLONES void gather_units(const Window& window, const T* c, const T* weight, const int32_t* rows,
                                  int64_t n_rows, T* out) {
  const Window s = window;  // a copy, which no store into `out` can change
  using V = typename Vector<T>::Of;
  constexpr int kLanes = Vector<T>::kLanes;
  const int64_t n = kRun > 0 ? kRun : s.out();
  for (int64_t k = 0; k < n_rows; ++k) {
    V even = {}, odd = {};  // in a fixed order, whatever the width of a vector
    T rest = 0;
    s.runs(rows[k], [&](int64_t place, int64_t from) __attribute__((always_inline)) {
      const T *const x = c + place, *const w = weight + (kOne ? 0 : from);
      int64_t i = 0;
      for (; !kOne && i + 2 * kLanes <= n; i += 2 * kLanes) {
        even += *reinterpret_cast<const V*>(x + i) * *reinterpret_cast<const V*>(w + i);
        odd += *reinterpret_cast<const V*>(x + i + kLanes) * *reinterpret_cast<const V*>(w + i + kLanes);
      }
      if (!kOne && i + kLanes <= n) {
        even += *reinterpret_cast<const V*>(x + i) * *reinterpret_cast<const V*>(w + i);
        i += kLanes;
      }
      for (; i < n; ++i) rest += x[i] * w[kOne ? 0 : i];
    });
    even += odd;
    T sum[kLanes];
    std::memcpy(sum, &even, sizeof(sum));
    for (int half = kLanes / 2; half > 0; half /= 2) {
      for (int q = 0; q < half; ++q) sum[q] += sum[q + half];
    }
    out[rows[k]] = sum[0] + rest;
  }
}

template <int kRun, bool kOne, typename T>
BRAINSIM_CLONES void outer_units(const Window& window, const T* value, const int32_t* rows, int64_t n_rows, const T* c,
                                 T* out) {
  const Window s = window;  // a copy, which no store into `out` can change
  const int64_t n = kRun > 0 ? kRun : s.out();
  for (int64_t k = 0; k < n_rows; ++k) {
    const T amount = value[rows[k]];
    T total = 0;
    s.runs(rows[k], [&](int64_t place, int64_t from) __attribute__((always_inline)) {
      if (!kOne) return add_multiple(out + from, amount, c + place, n);
      for (int64_t i = 0; i < n; ++i) total += c[place + i];
    });
    if (kOne) out[0] += amount * total;
  }
}

// Calls f(channels of a run, whether there is one weight), both known to the compiler.
template <typename F>
void for_run(const Window& s, bool one, F&& f) {
  using Any = std::integral_constant<int, 0>;
  if (one) return f(Any(), std::true_type());
  if (s.out() == 8) return f(std::integral_constant<int, 8>(), std::false_type());
  if (s.out() == 16) return f(std::integral_constant<int, 16>(), std::false_type());
  if (s.out() == 32) return f(std::integral_constant<int, 32>(), std::false_type());
  f(Any(), std::false_type());
}

// out[now + ...] += what the active units `rows` send. `value`: null where it is 1 for all of them.
template <typename T>
void send_events(const Window& s, const T* value, const std::vector<int32_t>& rows, const T* weight, bool one, T* out) {
  for_run(s, one, [&](auto run, auto single) {
    send_rows<run.value, single.value, T>(s, value, rows.data(), rows.size(), weight, out + s.now);
  });
}

// Memory of a thread for a list of units, kept from call to call.
inline std::vector<int32_t>& kept_rows() {
  static thread_local std::vector<int32_t> rows;
  rows.clear();
  return rows;
}

// Lists the active ones of units 0..n-1; whether there are at most so many: then all of them are listed.
template <typename T>
bool list_units(const Active<T>& active, int64_t n, int64_t most, std::vector<int32_t>& rows) {
  for (int64_t begin = 0; begin < n; begin += 1024) {
    const auto add = [&](int64_t i) { rows.push_back(static_cast<int32_t>(i)); };
    active.each(begin, std::min<int64_t>(n, begin + 1024), add);
    if (static_cast<int64_t>(rows.size()) > most) return false;
  }
  return true;
}

template <typename T>
void convolve_scatter(const Window& s, const T* value, const Active<T>& active, const T* weight, bool one, T* out) {
  std::vector<int32_t>& rows = kept_rows();
  if (list_units(active, s.n_pre(), most_events<T>(s, s.out(), s.in(), one), rows)) {
    return send_events(s, value, rows, weight, one, out);
  }
  dense_scatter<T>(s, value, weight, out + s.now);
}

// What reaches the wanted units back, 0 for the others; null: all of them.
template <typename T>
void convolve_gather(const Window& s, const T* c, const T* weight, bool one, const bool* wanted, T* out) {
  std::vector<int32_t>& rows = kept_rows();
  const int64_t n = s.n_pre(), most = most_events<T>(s, s.in(), s.out(), one);
  if ((wanted == nullptr ? n : std::count(wanted, wanted + n, true)) > most) {
    dense_gather<T>(s, c + s.now, weight, out);
    for (int64_t i = 0; wanted != nullptr && i < n; ++i) out[i] = wanted[i] ? out[i] : T(0);
    return;
  }
  auto add = [&](int64_t i) { rows.push_back(static_cast<int32_t>(i)); };
  for (int64_t i = 0; wanted == nullptr && i < n; ++i) add(i);
  if (wanted != nullptr) for_true(wanted, 0, n, add);
  std::fill_n(out, n, T(0));
  for_run(s, one, [&](auto run, auto single) {
    gather_units<run.value, single.value, T>(s, c + s.now, weight, rows.data(), rows.size(), out);
  });
}

// out += the sums over the active units for every weight.
template <typename T>
void convolve_outer(const Window& s, const T* value, const Active<T>& active, const T* c, bool one, T* out) {
  std::vector<int32_t>& rows = kept_rows();
  if (!list_units(active, s.n_pre(), most_events<T>(s, s.out(), s.in(), one), rows)) {
    return dense_outer<T>(s, value, c + s.now, out);
  }
  for_run(s, one, [&](auto run, auto single) {
    outer_units<run.value, single.value, T>(s, value, rows.data(), rows.size(), c + s.now, out);
  });
}

// One batch element; elements may share `out`. `from` is the weight, or c.
template <typename T>
struct Convolved {
  T* out;
  const T* value;  // of unit (0, 0, 0)
  Active<T> active;
  const T* from;
  Window window;
};

template <typename T>
struct ConvolvedBack {
  T* out;  // of unit (0, 0, 0)
  const T* c;
  const T* weight;
  const bool* wanted;  // null for every unit
  Window window;
};

inline int64_t synapses_of(const Window& s) { return s.n_pre() * s.kh * s.kw * s.out() / (s.sy * s.sx); }

// All elements of a batch; `apart`: no two of them share `out`. Threads share the elements.
template <typename Pool, typename T>
void convolved_scatter(Pool& pool, const std::vector<Convolved<T>>& batch, bool one, bool apart) {
  auto element = [&](int64_t b) {
    const Convolved<T>& e = batch[b];
    convolve_scatter(e.window, e.value, e.active, e.from, one, e.out);
  };
  const int64_t n = batch.size();
  if (apart && n > 1 && n * synapses_of(batch[0].window) / 16 >= kWorthSharing) return parallel_for(pool, n, element);
  for (int64_t b = 0; b < n; ++b) element(b);
}

template <typename Pool, typename T>
void convolved_gather(Pool& pool, const std::vector<ConvolvedBack<T>>& batch, bool one) {
  auto element = [&](int64_t b) {
    const ConvolvedBack<T>& e = batch[b];
    convolve_gather(e.window, e.c, e.weight, one, e.wanted, e.out);
  };
  const int64_t n = batch.size();
  if (n > 1 && n * synapses_of(batch[0].window) / 4 >= kWorthSharing) return parallel_for(pool, n, element);
  for (int64_t b = 0; b < n; ++b) element(b);
}

// Elements that share `out` are added up in blocks, which do not depend on the threads.
template <typename Pool, typename T>
void convolved_outer(Pool& pool, const std::vector<Convolved<T>>& batch, bool one) {
  const int64_t n = batch.size();
  if (n == 0) return;
  const Window& s = batch[0].window;
  const int64_t n_weight = one ? 1 : s.n_weight(), block = std::max<int64_t>(1, (n + 7) / 8);
  auto add = [&](const Convolved<T>& e, T* out) { convolve_outer(e.window, e.value, e.active, e.from, one, out); };
  bool shared = true, apart = true;
  for (int64_t b = 1; b < n; ++b) {
    shared = shared && batch[b].out == batch[0].out;
    apart = apart && batch[b].out >= batch[b - 1].out + n_weight;
  }
  if (n > 1 && apart) return parallel_for(pool, n, [&](int64_t b) { add(batch[b], batch[b].out); });
  if (n == 1 || !shared) {
    for (const auto& e : batch) add(e, e.out);
    return;
  }
  const int64_t blocks = (n + block - 1) / block;
  std::vector<T> sums(blocks * n_weight);
  auto sum = [&](int64_t k) {
    for (int64_t b = k * block; b < std::min(n, (k + 1) * block); ++b) add(batch[b], sums.data() + k * n_weight);
  };
  if (n * synapses_of(s) / 16 >= kWorthSharing) {
    parallel_for(pool, blocks, sum);
  } else {
    for (int64_t k = 0; k < blocks; ++k) sum(k);
  }
  for (int64_t k = 0; k < blocks; ++k) {
    for (int64_t j = 0; j < n_weight; ++j) batch[0].out[j] += sums[k * n_weight + j];
  }
}

}  // namespace brainsim

#endif  // BRAINSIM_CONVOLUTION_H_
