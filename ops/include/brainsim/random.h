// The counter-based generator of brainsim: Philox4x32-10 (Salmon, Moraes, Dror and Shaw 2011,
// doi:10.1145/2063384.2063405) and what is made of its words, in 32-bit integers only. Its twin, bit for bit, is
// brainsim/events/_random.py.
#ifndef BRAINSIM_RANDOM_H_
#define BRAINSIM_RANDOM_H_

#include <algorithm>
#include <cstdint>
#include <cstring>

// Vector instructions where the machine has them; the integers are the same everywhere. Clones are chosen before the
// sanitizer of threads has begun, which it does not survive.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && defined(__GLIBC__) && \
    !defined(__SANITIZE_THREAD__)
#define BRAINSIM_CLONES __attribute__((target_clones("avx2", "default")))
#else
#define BRAINSIM_CLONES
#endif

namespace brainsim {

constexpr int kDraws = 64;  // words of one batch: sixteen calls of four words, call l giving words l, l + 16, ...

// Which stream of a seed: the fourth word of the counter.
enum Purpose : uint32_t { kBulk = 0, kRows = 1, kWeights = 2, kKeys = 3, kFine = 4 };

struct Seed {
  uint32_t a, b;
};

inline uint32_t mulhi(uint32_t x, uint32_t y) { return static_cast<uint32_t>((static_cast<uint64_t>(x) * y) >> 32); }

// The words of a batch.
void draws(Seed seed, uint32_t batch, uint32_t segment, uint32_t row, Purpose purpose, uint32_t* out);

// -ln U as a fixed-point number with 27 bits after the point, for a batch of words, where U = (2 (w mod 2^31) + 1) /
// 2^32.
void negative_logs(const uint32_t* words, const uint32_t* table, uint32_t* out);

// Standard normal numbers with 28 bits after the point: the quantile at U / 2, its sign the highest bit of the word.
void fixed_normals(const uint32_t* words, const uint32_t* table, int32_t* out);

constexpr int kLogBits = 8, kNormalBits = 5;  // pieces in an octave of the two tables
constexpr int64_t kLogTable = 3 << kLogBits, kNormalTable = 32 * (3 << kNormalBits);

// Bulk noise: word i, or the normal number made of it, belongs to unit i whatever the length. Units begin..end-1 of it,
// `begin` a multiple of kDraws; `out` is that of unit 0.
inline void bulk_bits(Seed seed, int64_t begin, int64_t end, uint32_t* out) {
  uint32_t words[kDraws];
  for (int64_t i = begin; i < end; i += kDraws) {
    draws(seed, static_cast<uint32_t>(i / kDraws), 0, 0, kBulk, words);
    std::memcpy(out + i, words, std::min<int64_t>(kDraws, end - i) * sizeof(uint32_t));
  }
}

template <typename T>
inline void bulk_normals(Seed seed, const uint32_t* table, int64_t begin, int64_t end, T* out) {
  uint32_t words[kDraws];
  int32_t fixed[kDraws];
  for (int64_t i = begin; i < end; i += kDraws) {
    draws(seed, static_cast<uint32_t>(i / kDraws), 0, 0, kBulk, words);
    fixed_normals(words, table, fixed);
    const int64_t m = std::min<int64_t>(kDraws, end - i);
    for (int64_t j = 0; j < m; ++j) out[i + j] = static_cast<T>(fixed[j]) * T(1.0 / (1 << 28));
  }
}

// The key that JAX's threefry generator makes of a key and a number (`jax.random.fold_in`): Threefry2x32-20 (Salmon et
// al. 2011) of the counter (0, number).
inline Seed fold_in(Seed key, uint32_t number) {
  constexpr int kTurns[2][4] = {{13, 15, 26, 6}, {17, 29, 16, 24}};
  const uint32_t keys[3] = {key.a, key.b, key.a ^ key.b ^ 0x1BD11BDAu};
  uint32_t x = keys[0], y = number + keys[1];
  for (uint32_t group = 0; group < 5; ++group) {
    for (int turn : kTurns[group % 2]) {
      x += y;
      y = (y << turn | y >> (32 - turn)) ^ x;
    }
    x += keys[(group + 1) % 3];
    y += keys[(group + 2) % 3] + group + 1;
  }
  return {x, y};
}

}  // namespace brainsim

#endif  // BRAINSIM_RANDOM_H_
