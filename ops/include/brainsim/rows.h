// Rows of synapses drawn from the generator, as brainsim/events/_draws.py has it; the integers agree bit for bit.
#ifndef BRAINSIM_ROWS_H_
#define BRAINSIM_ROWS_H_

#include <algorithm>
#include <cstdint>
#include <limits>

#include "brainsim/random.h"

namespace brainsim {

enum Kind : int64_t { kSome = 0, kDistinct = 1, kRepeated = 2 };
enum Law : int64_t { kOne = 0, kUniform = 1, kNormal = 2 };
constexpr int64_t kNone = std::numeric_limits<int64_t>::min();
constexpr int kRounds = 16;

// One batch element of the connectivity.
struct Rows {
  int64_t first, n_pre, n, kind, k, law, twin, start, step, span, segments, multiplier, shift, bits;
  int64_t now;  // place of target 0 in the ring, at the present slot
  Seed seed;
  const uint32_t* logs;
  const uint32_t* normals;

  BRAINSIM_BOTH int64_t n_weight() const { return law == kOne ? 1 : 2; }

  BRAINSIM_BOTH int64_t place(uint32_t target) const { return now + step * target; }

  int64_t length() const { return std::max<int64_t>(1, kind == kSome ? segments * kDraws * 3 / 4 : k); }  // about

  // The target that is a row's own unit, -1 if none is; where a row of a fixed length has one, it leaves it out.
  BRAINSIM_BOTH int64_t own(uint32_t row) const { return twin == kNone ? -1 : row + twin; }
  BRAINSIM_BOTH bool holed(int64_t own) const { return own >= 0 && own < n; }

  // Targets passed over before the next synapse, of -ln U. It copies its numbers: no store in a loop can change them.
  struct Gap {
    uint32_t multiplier, most;
    int64_t shift;
    BRAINSIM_BOTH uint32_t operator()(uint32_t log) const {
      const uint32_t gap = static_cast<uint64_t>(mulhi(log, multiplier)) >> shift;
      return std::min(gap, most);
    }
  };
  BRAINSIM_BOTH Gap gap() const { return {static_cast<uint32_t>(multiplier), static_cast<uint32_t>(span), shift}; }

  // One of `choice` targets, by 64 random bits.
  BRAINSIM_BOTH static uint32_t any(uint32_t high, uint32_t low, uint32_t choice) {
    return (static_cast<uint64_t>(high) * choice + mulhi(low, choice)) >> 32;
  }

  // A random permutation of 0..2^bits-1: a Feistel network.
  BRAINSIM_BOTH static uint32_t permuted(uint32_t bits, const uint32_t* keys, uint32_t x) {
    const uint32_t low_bits = bits - bits / 2, high_bits = bits / 2;
    uint32_t low = x & ((1u << low_bits) - 1), high = x >> low_bits;
    for (int round = 0; round < kRounds; round += 2) {
      high ^= mix(low, keys + 2 * round) >> (32 - high_bits);
      low ^= mix(high, keys + 2 * round + 2) >> (32 - low_bits);
    }
    return high << low_bits | low;
  }

  // Calls f(target, x) for the synapses of a row in segments low..high-1; x is 0 unless weights are drawn.
  template <typename T, bool kDrawn, typename F>
  void for_row(uint32_t row, uint32_t low, uint32_t high, F&& f) const {
    const int64_t own = this->own(row);
    T x[kDraws] = {};
    uint32_t to[kDraws];
    if (kind == kSome) {
      for (uint32_t s = low; s < high; ++s) {
        uint64_t at = static_cast<uint64_t>(s) * span;
        const uint64_t end = std::min<uint64_t>(n, at + span);
        for (uint32_t batch = 0; at < end; ++batch) {
          int m = 0;
          gaps(batch, s, row, to);
          for (; m < kDraws; ++m) {
            at += to[m];
            if (at >= end) break;
            to[m] = at++;
          }
          if constexpr (kDrawn) basis(batch, s, row, x);
          for (int j = 0; j < m; ++j) {
            if (to[j] != own) f(to[j], x[j]);
          }
        }
      }
      return;
    }
    const bool holed = this->holed(own);
    const uint32_t choice = n - holed;
    uint32_t keys[kDraws];
    if (kind == kDistinct) draws(seed, 0, 0, row, kKeys, keys);
    for (uint32_t s = low; s < high; ++s) {
      const int m = std::min<int64_t>(kDraws, k - s * kDraws);
      if (kind == kDistinct) {
        distinct(s * kDraws, m, choice, keys, to);
      } else {
        repeated(s, row, choice, to);
      }
      if constexpr (kDrawn) basis(0, s, row, x);
      for (int j = 0; j < m; ++j) f(to[j] + (holed && to[j] >= own), x[j]);
    }
  }

 private:
  // Targets passed over before each of the next synapses.
  void gaps(uint32_t batch, uint32_t segment, uint32_t row, uint32_t* out) const {
    uint32_t words[kDraws];
    draws(seed, batch, segment, row, kRows, words);
    negative_logs(words, logs, out);
    const auto gap = this->gap();
    for (int i = 0; i < kDraws; ++i) out[i] = gap(out[i]);
  }

  // Targets with 64 random bits each.
  void repeated(uint32_t segment, uint32_t row, uint32_t choice, uint32_t* out) const {
    uint32_t low[kDraws];
    draws(seed, 0, segment, row, kRows, out);
    draws(seed, 0, segment, row, kFine, low);
    for (int i = 0; i < kDraws; ++i) out[i] = any(out[i], low[i], choice);
  }

  // Numbers `from` to `from + m` of a random permutation of the targets: a Feistel network, walked on along its cycle
  // where it leads beyond them.
  void distinct(uint32_t from, int m, uint32_t choice, const uint32_t* keys, uint32_t* out) const {
    for (int i = 0; i < kDraws; ++i) out[i] = from + i;
    permute(bits, keys, out, kDraws);
    for (int i = 0; i < m; ++i) {
      while (out[i] >= choice) permute(bits, keys, out + i, 1);
    }
  }

  static BRAINSIM_CLONES void permute(uint32_t bits, const uint32_t* keys, uint32_t* x, int n) {
    for (int i = 0; i < n; ++i) x[i] = permuted(bits, keys, x[i]);
  }

  BRAINSIM_BOTH static uint32_t mix(uint32_t x, const uint32_t* key) {
    const uint32_t h = (x + key[1]) * (key[0] | 1);
    return (h ^ (h >> 15)) * 0x2C1B3C6Du;
  }

  template <typename T>
  void basis(uint32_t batch, uint32_t segment, uint32_t row, T* x) const {
    uint32_t words[kDraws];
    draws(seed, batch, segment, row, kWeights, words);
    if (law == kUniform) {
      for (int j = 0; j < kDraws; ++j) x[j] = uniform_of<T>(words[j]);
      return;
    }
    int32_t fixed[kDraws];
    fixed_normals(words, normals, fixed);
    for (int j = 0; j < kDraws; ++j) x[j] = normal_of<T>(fixed[j]);
  }
};

}  // namespace brainsim

#endif  // BRAINSIM_ROWS_H_
