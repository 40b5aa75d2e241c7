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
#include "brainsim/windows.h"

namespace brainsim {

// `kBytes` of numbers, by the vector units of whatever processor; never handed to a function or returned by one that is
// not part of its caller.
template <typename T, int kBytes = 32>
struct Vector {
  typedef T Of [[gnu::vector_size(kBytes), gnu::aligned(sizeof(T)), gnu::may_alias]];
  typedef T Half [[gnu::vector_size(kBytes / 2), gnu::aligned(sizeof(T)), gnu::may_alias]];
  static constexpr int kLanes = kBytes / sizeof(T);
};

template <typename T>
constexpr int kColumns = 64 / sizeof(T);

// Terms of a sum: `n` entries `next` apart, in blocks of them `block` apart, in lines of blocks `line` apart.
struct Terms {
  int64_t n, next, blocks = 1, block = 0, lines = 1, line = 0;
};

// Sums that stay in registers, by columns of 64 bytes, which are channels: six rows of two vectors of 32 bytes, or
// twelve rows of one of 64.
template <typename T, int kBytes>
struct Tile {
  using V = typename Vector<T, kBytes>::Of;
  static constexpr int kLanes = kBytes / sizeof(T), kVectors = 64 / kBytes, kRows = 12 / kVectors;
  T sum[kRows][kColumns<T>];

  // The sums of a[r][k] b[k][column] over all terms k of a: row r of a begins at a + at[r]. b has `width` entries from
  // one term to the next.
  [[gnu::always_inline]] void multiply(const T* a, const int64_t* at, const Terms& terms, const T* b, int64_t width) {
    V sums[kRows][kVectors] = {};
    const T* rows[kRows];
    for (int r = 0; r < kRows; ++r) rows[r] = a + at[r];
    const int64_t n = terms.n, next = terms.next;
    for (int64_t line = 0; line < terms.lines; ++line) {
      for (int64_t block = 0; block < terms.blocks; ++block) {
        int64_t k = line * terms.line + block * terms.block;
        for (int64_t m = 0; m < n; ++m, k += next, b += width) {
          V x[kVectors];
          for (int v = 0; v < kVectors; ++v) x[v] = *reinterpret_cast<const V*>(b + v * kLanes);
#pragma GCC unroll 12
          for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
            for (int v = 0; v < kVectors; ++v) sums[r][v] += rows[r][k] * x[v];
          }
        }
      }
    }
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < kVectors; ++v) *reinterpret_cast<V*>(&sum[r][v * kLanes]) = sums[r][v];
    }
  }

  // Adds the sums to rows of `out`, `step` apart.
  [[gnu::always_inline]] void add_to(T* out, int64_t step, int64_t rows, int64_t columns) const {
    for (int64_t r = 0; r < rows; ++r, out += step) {
      for (int64_t k = 0; k < columns; ++k) out[k] += sum[r][k];
    }
  }
};

// Calls f(first row, rows, places) for the tiles of `n` rows, `kRows` each, places[r] = at(row) being where row r of a
// tile begins; those beyond its rows are the first once more.
template <int kRows, typename At, typename F>
[[gnu::always_inline]] inline void for_rows(int64_t n, At&& at, F&& f) {
  for (int64_t from = 0; from < n; from += kRows) {
    const int64_t rows = std::min<int64_t>(kRows, n - from);
    int64_t places[kRows];
    for (int64_t r = 0; r < kRows; ++r) places[r] = at(from + (r < rows ? r : 0));
    f(from, rows, places);
  }
}

// f(bytes of a vector), compiled for the widest vectors of the machine; every sum keeps its order.
template <typename F>
BRAINSIM_CLONES void by_narrow_vectors(F f) {
  f(std::integral_constant<int, 32>());
}

template <typename F>
BRAINSIM_WIDE void by_wide_vectors(F f) {
  f(std::integral_constant<int, 64>());
}

template <typename F>
void by_vectors(F f) {
  return wide_vectors() ? by_wide_vectors(f) : by_narrow_vectors(f);
}

// Memory of a thread that is kept from call to call: several arrays at a time.
template <typename T>
std::vector<T>& kept(int which) {
  static thread_local std::vector<T> arrays[3];
  return arrays[which];
}

// The weights of one group, of tap after tap [channel in][a tile's columns], for channels out from..from+columns; or,
// `flipped`, with channels in and out exchanged, the last tap first.
template <typename T>
void pack_weights(const Window& s, const T* weight, int64_t group, int64_t from, int64_t columns, bool flipped,
                  std::vector<T>& packed) {
  const int64_t terms = flipped ? s.out() : s.in(), taps = s.kh * s.kw, width = kColumns<T>;
  packed.assign(taps * terms * width, T(0));
  for (int64_t tap = 0; tap < taps; ++tap) {
    for (int64_t k = 0; k < terms; ++k) {
      T* const to = packed.data() + (tap * terms + k) * width;
      for (int64_t c = 0; c < columns; ++c) {
        const int64_t in = flipped ? from + c : k, out = flipped ? k : from + c;
        to[c] = weight[((flipped ? taps - 1 - tap : tap) * s.in() + in) * s.co + group * s.out() + out];
      }
    }
  }
}

// Calls f(group, first column, columns) for the tiles of all channels, `of` in a group.
template <typename T, typename F>
[[gnu::always_inline]] inline void for_columns(const Window& s, int64_t of, F&& f) {
  for (int64_t group = 0; group < s.groups; ++group) {
    for (int64_t from = 0; from < of; from += kColumns<T>) {
      f(group, from, std::min<int64_t>(kColumns<T>, of - from));
    }
  }
}

template <typename T>
const T* plane_of(const Window& s, const T* value, std::vector<T>& plane) {
  plane.assign(s.plane_h() * s.plane_w() * s.ci, T(0));
  s.rows([&](int64_t unit, int64_t at, int64_t n) { std::copy_n(value + unit, n, plane.data() + at); });
  return plane.data();
}

// out += the convolution `s` of `value`, by the weights of `given`, which is `s`, or, `flipped`, what `s` transposes.
template <int kBytes, typename T>
[[gnu::always_inline]] inline void dense(const Window& s, const T* value, const Window& given, const T* weight,
                                         bool flipped, T* out) {
  using Sums = Tile<T, kBytes>;
  const T* const plane = plane_of(s, value, kept<T>(0));
  const int64_t n = s.in(), line = s.plane_w() * s.ci;
  Terms terms{n, 1, s.kw, s.dx * s.ci, s.kh, s.dy * line};
  if (terms.block == n) terms.n *= s.kw, terms.blocks = 1;
  for_columns<T>(s, s.out(), [&](int64_t group, int64_t from, int64_t columns) __attribute__((always_inline)) {
    std::vector<T>& packed = kept<T>(1);
    pack_weights(given, weight, group, from, columns, flipped, packed);
    const auto read = [&](int64_t row) __attribute__((always_inline)) {
      return row / s.ow * s.sy * line + row % s.ow * s.sx * s.ci + group * n;
    };
    const auto add = [&](int64_t row, int64_t rows, const int64_t* reads) __attribute__((always_inline)) {
      Sums tile;
      tile.multiply(plane, reads, terms, packed.data(), kColumns<T>);
      tile.add_to(out + row * s.co + group * s.out() + from, s.co, rows, columns);
    };
    for_rows<Sums::kRows>(s.oh * s.ow, read, add);
  });
}

// out += the convolution of `value`.
template <typename T>
void dense_scatter(const Window& s, const T* value, const T* weight, T* out) {
  by_vectors([&](auto bytes) __attribute__((always_inline)) { dense<bytes.value>(s, value, s, weight, false, out); });
}

// What reaches every place of the plane back from `c`, tap by tap.
template <int kBytes, typename T>
[[gnu::always_inline]] inline void gather_taps(const Window& s, const T* c, const T* weight, T* plane) {
  using Sums = Tile<T, kBytes>;
  const int64_t n = s.out(), taps = s.kh * s.kw, line = s.plane_w() * s.ci;
  for_columns<T>(s, s.in(), [&](int64_t group, int64_t from, int64_t columns) __attribute__((always_inline)) {
    std::vector<T>& packed = kept<T>(1);
    pack_weights(s, weight, group, from, columns, true, packed);
    const auto read = [&](int64_t row) __attribute__((always_inline)) { return row * s.co + group * n; };
    const auto add = [&](int64_t row, int64_t rows, const int64_t* reads) __attribute__((always_inline)) {
      for (int64_t tap = 0; tap < taps; ++tap) {
        Sums tile;
        tile.multiply(c, reads, {n, 1}, packed.data() + (taps - 1 - tap) * n * kColumns<T>, kColumns<T>);
        for (int64_t r = 0; r < rows; ++r) {
          const int64_t y = (row + r) / s.ow * s.sy + tap / s.kw * s.dy;
          const int64_t x = (row + r) % s.ow * s.sx + tap % s.kw * s.dx;
          T* const to = plane + y * line + x * s.ci + group * s.in() + from;
          for (int64_t k = 0; k < columns; ++k) to[k] += tile.sum[r][k];
        }
      }
    };
    for_rows<Sums::kRows>(s.oh * s.ow, read, add);
  });
}

// What reaches every unit back from `c`, into `out`: without a stride, that is a convolution itself.
template <typename T>
void dense_gather(const Window& s, const T* c, const T* weight, T* out) {
  std::fill_n(out, s.n_pre(), T(0));
  const int64_t py = s.dy * (s.kh - 1) - s.py, px = s.dx * (s.kw - 1) - s.px;
  if (s.sy == 1 && s.sx == 1 && py >= 0 && px >= 0) {
    const Window back{s.oh, s.ow, s.co, s.h, s.w, s.ci, s.kh, s.kw, 1, 1, py, px, s.dy, s.dx, s.groups};
    return by_vectors([&](auto bytes)
                          __attribute__((always_inline)) { dense<bytes.value>(back, c, s, weight, true, out); });
  }
  std::vector<T>& plane = kept<T>(0);
  plane.assign(s.plane_h() * s.plane_w() * s.ci, T(0));
  by_vectors([&](auto bytes) __attribute__((always_inline)) { gather_taps<bytes.value>(s, c, weight, plane.data()); });
  s.rows([&](int64_t unit, int64_t at, int64_t n_units) { std::copy_n(plane.data() + at, n_units, out + unit); });
}

// out += the sums of value times c over the places that share a weight; `c` reads on for a tile.
template <int kBytes, typename T>
[[gnu::always_inline]] inline void outer_taps(const Window& s, const T* plane, const T* c, T* out) {
  using Sums = Tile<T, kBytes>;
  const int64_t n = s.in(), line = s.plane_w() * s.ci;
  const Terms places{s.ow, s.sx * s.ci, s.oh, s.sy * line};
  for_columns<T>(s, s.out(), [&](int64_t group, int64_t from, int64_t columns) __attribute__((always_inline)) {
    const int64_t column = group * s.out() + from;
    const auto read = [&](int64_t row) __attribute__((always_inline)) {  // row: tap and channel in
      const int64_t tap = row / n;
      return tap / s.kw * s.dy * line + tap % s.kw * s.dx * s.ci + group * n + row % n;
    };
    const auto add = [&](int64_t row, int64_t rows, const int64_t* reads) __attribute__((always_inline)) {
      Sums tile;
      tile.multiply(plane, reads, places, c + column, s.co);
      tile.add_to(out + row * s.co + column, s.co, rows, columns);
    };
    for_rows<Sums::kRows>(s.kh * s.kw * n, read, add);
  });
}

template <typename T>
void dense_outer(const Window& s, const T* value, const T* c, T* out) {
  const T* const plane = plane_of(s, value, kept<T>(0));
  std::vector<T>& arrived = kept<T>(1);
  arrived.assign(s.n_post() + kColumns<T>, T(0));
  std::copy_n(c, s.n_post(), arrived.data());
  by_vectors([&](auto bytes)
                 __attribute__((always_inline)) { outer_taps<bytes.value>(s, plane, arrived.data(), out); });
}

// Active units that are sent one by one; more are sent densely, by tiles over `columns` of a group, sums of `terms`.
// Both in hundredths of a nanosecond, as measured for many shapes; `one` weight for all has no tiles.
template <typename T>
int64_t most_events(const Window& s, int64_t columns, int64_t terms, bool one) {
  if (one) return s.n_pre();
  constexpr int64_t kWide = 2 * Vector<T>::kLanes;
  const int64_t densely = s.oh * s.ow * s.groups * ((columns + kWide - 1) / kWide) * (20 * terms + 30);
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

// Whether at most so many of units 0..n-1 are active: then lists them.
template <typename T>
bool list_units(const Active<T>& active, int64_t n, int64_t most, std::vector<int32_t>& rows) {
  if (active.count(n) > most) return false;
  active.each(0, n, [&](int64_t i) { rows.push_back(static_cast<int32_t>(i)); });
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
