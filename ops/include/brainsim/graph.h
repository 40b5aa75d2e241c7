// The connectivity as the kernels see it: rows of synapses, and the place in the ring where a synapse delivers.
#ifndef BRAINSIM_GRAPH_H_
#define BRAINSIM_GRAPH_H_

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>

#include "brainsim/batch.h"
#include "brainsim/tally.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace brainsim {

// Bit k set iff x[k] != 0, for k < n <= 32: NaN is a value, -0 is none.
template <typename T>
inline uint32_t pack(const T* x, int64_t n) {
  uint32_t bits = 0;
#if defined(__SSE2__)  // every x86-64; compilers do not find these instructions by themselves
  if (n == 32) {
    if constexpr (sizeof(T) == 4) {
      const __m128 zero = _mm_setzero_ps();
      for (int k = 0; k < 32; k += 4) {
        bits |= static_cast<uint32_t>(_mm_movemask_ps(_mm_cmpneq_ps(_mm_loadu_ps(x + k), zero))) << k;
      }
    } else {
      const __m128d zero = _mm_setzero_pd();
      for (int k = 0; k < 32; k += 2) {
        bits |= static_cast<uint32_t>(_mm_movemask_pd(_mm_cmpneq_pd(_mm_loadu_pd(x + k), zero))) << k;
      }
    }
    return bits;
  }
#endif
  bool any = false;
  for (int64_t k = 0; k < n; ++k) any |= x[k] != T(0);
  for (int64_t k = 0; any && k < n; ++k) bits |= static_cast<uint32_t>(x[k] != T(0)) << k;
  return bits;
}

constexpr int64_t kLine = 16;  // 32-bit numbers in a line of the cache

// Calls f(i) for every i in begin..end-1 with mask[i], in order; false is skipped 8 at a time.
template <typename F>
inline void for_true(const bool* mask, int64_t begin, int64_t end, F&& f) {
  int64_t i = begin;
  for (; i + 8 <= end; i += 8) {
    uint64_t eight;
    std::memcpy(&eight, mask + i, sizeof(eight));
    if (eight == 0) continue;
    for (int k = 0; k < 8; ++k) {
      if (mask[i + k]) f(i + k);
    }
  }
  for (; i < end; ++i) {
    if (mask[i]) f(i);
  }
}

// Calls f(i, next) for every i >= 0 that `each` calls its function with, `next` being the one after it; for the last,
// itself.
template <typename Each, typename F>
inline void for_next(Each&& each, F&& f) {
  int64_t before = -1;
  each([&](int64_t i) {
    if (before >= 0) f(before, i);
    before = i;
  });
  if (before >= 0) f(before, before);
}

// What nothing writes to while a kernel runs: a GPU need not wait with it for what it has still to write.
template <typename T>
BRAINSIM_BOTH inline T constant(const T* at) {
#if defined(__CUDA_ARCH__)
  return __ldg(at);
#else
  return *at;
#endif
}

// The rows with a value: found in packed words where there are any (bit k of word w for unit 32 w + k), else by
// looking.
template <typename T>
class Active {
 public:
  BRAINSIM_BOTH Active(const T* value, const uint32_t* words, int64_t first)
      : value(value), words(words), first(first) {}

  const T* value;         // of row 0, which is unit `first`
  const uint32_t* words;  // of unit 0; null if not given
  int64_t first;

  BRAINSIM_BOTH bool has(int64_t row) const {
    const int64_t unit = first + row;
    return words == nullptr ? value[row] != T(0) : (words[unit >> 5] >> (unit & 31) & 1) != 0;
  }

  // Bit k set iff unit 32 w + k < n has a value; for `first` = 0.
  BRAINSIM_BOTH uint32_t word(int64_t w, int64_t n) const {
    const int64_t rest = n - 32 * w;
    const uint32_t mask = rest < 32 ? (uint32_t{1} << rest) - 1 : ~uint32_t{0};
    if (words != nullptr) return constant(words + w) & mask;
    uint32_t bits = 0;
    for (int64_t k = 0; k < std::min<int64_t>(rest, 32); ++k) {
      bits |= static_cast<uint32_t>(constant(value + 32 * w + k) != T(0)) << k;
    }
    return bits;
  }

  // How many of rows 0..n-1 have a value.
  int64_t count(int64_t n) const {
    int64_t total = 0;
    if (words == nullptr) {
      for (int64_t i = 0; i < n; ++i) total += value[i] != T(0);
      return total;
    }
    for (int64_t from = first, to; from < first + n; from = to) {
      to = std::min((from | 31) + 1, first + n);
      total += __builtin_popcount(words[from >> 5] >> (from & 31) & ~uint32_t{0} >> (32 - (to - from)));
    }
    return total;
  }

  // Calls f(i) for the rows i in begin..end-1 with a value, in order.
  template <typename F>
  void each(int64_t begin, int64_t end, F&& f) const {
    const int64_t low = first + begin, high = first + end;
    for (int64_t from = low, to; from < high; from = to) {
      to = std::min((from | 31) + 1, high);
      uint32_t bits;
      if (words == nullptr) {
        bits = pack(value + (from - first), to - from);
      } else {
        bits = words[from >> 5] >> (from & 31) & ~uint32_t{0} >> (32 - (to - from));
        if (bits == 0) to = silent(to, high);
      }
      for (; bits != 0; bits &= bits - 1) f(from - first + __builtin_ctz(bits));
    }
  }

 private:
  // The end of the words without an event from `from` on, 128 units at a time.
  int64_t silent(int64_t from, int64_t end) const {
    for (; from + 128 <= end; from += 128) {
      uint64_t four[2];
      std::memcpy(four, words + (from >> 5), sizeof(four));
      if ((four[0] | four[1]) != 0) break;
    }
    return from;
  }
};

// Appends the rows 0..n-1 with a value to `list`, which has room for so many; what does not fit is counted only.
// `many`: as often as their `multiplicity` says.
template <typename T>
inline void append_active(const Active<T>& active, int64_t n, int32_t* list, int64_t room, int32_t* length, bool many) {
  int64_t m = *length;
  active.each(0, n, [&](int64_t i) {
    const int64_t end = m + (many ? multiplicity(active.value[i]) : 1);
    for (int64_t k = std::max<int64_t>(m, 0); k < std::min(end, room); ++k) list[k] = static_cast<int32_t>(i);
    m = end;
  });
  *length = static_cast<int32_t>(std::min<int64_t>(m, std::numeric_limits<int32_t>::max()));
}

// Targets of `kBytes` bytes each, the lowest first; all but those of 4 bytes have no sign.
template <int kBytes>
struct Targets {
  static constexpr int kWidth = kBytes;
  const unsigned char* bytes;

  BRAINSIM_BOTH uint32_t operator[](int64_t j) const {
    const unsigned char* at = bytes + kBytes * j;
    if (kBytes == 4) return constant(reinterpret_cast<const uint32_t*>(at));
    if (kBytes == 2) return constant(reinterpret_cast<const uint16_t*>(at));
#if defined(__CUDA_ARCH__)  // it reads words at multiples of their size only
    const auto* word = reinterpret_cast<const uint32_t*>(reinterpret_cast<uintptr_t>(at) & ~uintptr_t{3});
    const unsigned shift = 8 * (reinterpret_cast<uintptr_t>(at) & 3);
    return __funnelshift_r(constant(word), shift > 8 ? constant(word + 1) : 0u, shift) & 0xffffff;
#else
    uint32_t four;  // one byte too many, which the formats add behind the last target
    std::memcpy(&four, at, 4);
    return four & 0xffffff;
#endif
  }
};

// Asks for every line of the cache that begin..end-1 touch. GCC takes a function that does nothing else for one without
// effect, and drops calls of it unless they are inlined.
template <typename T>
[[gnu::always_inline]] inline void prefetch_lines(const T* begin, const T* end) {
  for (auto at = reinterpret_cast<uintptr_t>(begin) & -64; at < reinterpret_cast<uintptr_t>(end); at += 64) {
    __builtin_prefetch(reinterpret_cast<const void*>(at));
  }
}

// Places in a row of `length` synapses among which chance puts one of its shares: more than two standard deviations to
// either side; a power of two.
inline int64_t window_of(int64_t length) {
  int64_t window = 16;
  while (4 * window * window < 25 * length) window *= 2;
  return window;
}

// The first place in begin..end of ascending x with x >= bound. Looked for among `window` places, a power of two,
// around `guess`, without a branch that nobody could foresee; if it is not there, anywhere.
template <typename Ascending>
inline int64_t first_from(Ascending x, int64_t begin, int64_t end, uint32_t bound, int64_t guess, int64_t window) {
  if (end - begin >= window) {
    const int64_t low = std::clamp(guess - window / 2, begin, end - window), high = low + window - 1;
    int64_t at = low;
    for (int64_t step = window / 2; step > 0; step /= 2) at += x[at + step - 1] < bound ? step : 0;
    if ((at > low || low == begin || x[low - 1] < bound) && (at < high || x[high] >= bound)) return at;
  }
  while (begin < end) {
    const int64_t middle = begin + (end - begin) / 2;
    x[middle] < bound ? begin = middle + 1 : end = middle;
  }
  return begin;
}

// Post units of a block, as a power of two: few blocks, each with sums that fit the cache.
// `brainsim/events/_targets.py` has the same.
BRAINSIM_BOTH inline int block_bits(int64_t n_post) {
  int bits = 13;
  while (bits < 16 && n_post >> bits > 16) ++bits;
  return bits;
}

BRAINSIM_BOTH inline int64_t blocks_of(int64_t n_post) {
  return (n_post + (int64_t{1} << block_bits(n_post)) - 1) >> block_bits(n_post);
}

// One batch element of the connectivity. Arrays made under a transformation have never been looked at, so nothing is
// taken on trust: rows are cut to the list of synapses, and a target out of range is dropped.
struct Graph {
  const int32_t* indptr;  // null where every row has `fanout` synapses
  const void* indices;
  int64_t width = 4;  // bytes of a target
  // for each row how many synapses it has in each block of the post units, if they ascend; null where nobody counted,
  // and 255 first where there are too many of them for a byte
  const uint8_t* stretches = nullptr;
  const int32_t* delay;  // null where no synapse has one
  int64_t n_syn;
  int64_t first_syn = 0;  // rows are cut to first_syn..n_syn
  int64_t fanout;
  int64_t depth;  // of the ring
  int64_t slot;   // 0 <= slot < depth
  uint32_t n_post;

  BRAINSIM_BOTH int64_t begin(int64_t row) const { return indptr == nullptr ? row * fanout : cut(indptr[row]); }
  BRAINSIM_BOTH int64_t end(int64_t row) const { return indptr == nullptr ? (row + 1) * fanout : cut(indptr[row + 1]); }

  int64_t length(int64_t row) const { return std::max<int64_t>(end(row) - begin(row), 0); }

  // The same rows, cut to the synapses between the begins of two of them.
  Graph within(int64_t first_row, int64_t end_row) const {
    Graph graph = *this;
    if (indptr != nullptr) {
      graph.first_syn = begin(first_row);
      graph.n_syn = std::max(begin(end_row), graph.first_syn);
    }
    return graph;
  }

  // Row of the ring for a synapse with delay `d`, in 0..depth-1; the remainder is taken only for a delay out of range.
  BRAINSIM_BOTH int64_t ring(int32_t d) const {
    int64_t s = slot + d;
    if (static_cast<uint64_t>(static_cast<int64_t>(d)) < static_cast<uint64_t>(depth)) {
      return s >= depth ? s - depth : s;
    }
    s %= depth;
    return s < 0 ? s + depth : s;
  }

  // Place of the first post unit in the ring, at the present slot.
  BRAINSIM_BOTH int64_t now() const { return slot * static_cast<int64_t>(n_post); }

  template <int kBytes>
  BRAINSIM_BOTH Targets<kBytes> targets() const {
    return {static_cast<const unsigned char*>(indices)};
  }

  // f(targets), of the type they have: asked once for many of them.
  template <typename F>
  BRAINSIM_BOTH auto with_targets(F&& f) const {
    if (width == 2) return f(targets<2>());
    if (width == 3) return f(targets<3>());
    return f(targets<4>());
  }

  // The place that synapse j delivers to, ring row * n_post + target.
  template <bool kDelay>
  int64_t place(uint32_t target, int64_t j, int64_t now) const {
    return (kDelay ? ring(delay[j]) * static_cast<int64_t>(n_post) : now) + target;
  }

  // Calls f(place) if synapse j has a target.
  template <bool kDelay, typename F>
  void deliver(uint32_t target, int64_t j, int64_t now, F&& f) const {
    if (target < n_post) f(place<kDelay>(target, j, now));
  }

  // Calls f(j, place) for the synapses of a row that have a target.
  template <bool kDelay, typename F>
  void for_row(int64_t row, F&& f) const {
    const int64_t last = end(row), at = now();
    with_targets([&](auto targets) {
      for (int64_t j = begin(row); j < last; ++j) {
        deliver<kDelay>(targets[j], j, at, [&](int64_t place) { f(j, place); });
      }
    });
  }

  // Asks for the line of synapses that j is in, and of what lies beside them, if not null.
  template <typename T>
  [[gnu::always_inline]] void prefetch(int64_t j, const T* beside) const {
    __builtin_prefetch(static_cast<const char*>(indices) + width * j);
    if (delay != nullptr) __builtin_prefetch(delay + j);
    if (beside != nullptr) __builtin_prefetch(beside + j);
    if (beside != nullptr && sizeof(T) == 8) __builtin_prefetch(beside + j + 8);
  }

  // Asks for the synapses begin..end-1: for every line, wherever it begins.
  template <typename T>
  [[gnu::always_inline]] void prefetch(int64_t begin, int64_t end, const T* beside) const {
    const auto* bytes = static_cast<const char*>(indices);
    prefetch_lines(bytes + width * begin, bytes + width * end);
    if (delay != nullptr) prefetch_lines(delay + begin, delay + end);
    if (beside != nullptr) prefetch_lines(beside + begin, beside + end);
  }

 private:
  BRAINSIM_BOTH int64_t cut(int32_t j) const { return std::clamp<int64_t>(j, first_syn, n_syn); }
};

}  // namespace brainsim

#endif  // BRAINSIM_GRAPH_H_
