// The counter-based generator of brainsim: Philox4x32-10 (Salmon, Moraes, Dror and Shaw 2011,
// doi:10.1145/2063384.2063405) and what is made of its words, in 32-bit integers only. Its twin, bit for bit, is
// brainsim/events/_random.py.
#ifndef BRAINSIM_RANDOM_H_
#define BRAINSIM_RANDOM_H_

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "brainsim/both.h"

// Vector instructions where the machine has them; the integers are the same everywhere. Clones are chosen before the
// sanitizer of threads has begun, which it does not survive.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && defined(__GLIBC__) && \
    !defined(__SANITIZE_THREAD__)
#define BRAINSIM_CLONES __attribute__((target_clones("avx2", "default")))
#define BRAINSIM_WIDE __attribute__((target("avx512f")))
#define BRAINSIM_HAS_WIDE (__builtin_cpu_supports("avx512f") != 0)
#else
#define BRAINSIM_CLONES
#define BRAINSIM_WIDE
#define BRAINSIM_HAS_WIDE false
#endif

namespace brainsim {

// Whether what is BRAINSIM_WIDE may be called.
inline bool wide_vectors() { return BRAINSIM_HAS_WIDE; }

constexpr int kDraws = 64;  // words of one batch: sixteen calls of four words, call l giving words l, l + 16, ...

// Which stream of a seed: the fourth word of the counter.
enum Purpose : uint32_t { kBulk = 0, kRows = 1, kWeights = 2, kKeys = 3, kFine = 4 };

struct Seed {
  uint32_t a, b;
};

BRAINSIM_BOTH inline uint32_t mulhi(uint32_t x, uint32_t y) {
  return static_cast<uint32_t>((static_cast<uint64_t>(x) * y) >> 32);
}

constexpr int kCalls = kDraws / 4;
constexpr uint32_t kM0 = 0xD2511F53u, kM1 = 0xCD9E8D57u, kW0 = 0x9E3779B9u, kW1 = 0xBB67AE85u;  // of Philox

// Call `call`, counted through all batches, of the generator: four words.
BRAINSIM_BOTH inline void philox(Seed seed, uint32_t call, uint32_t segment, uint32_t row, Purpose purpose,
                                 uint32_t* x) {
  x[0] = call, x[1] = segment, x[2] = row, x[3] = purpose;
  for (int round = 0; round < 10; ++round, seed.a += kW0, seed.b += kW1) {
    const uint32_t high0 = mulhi(kM0, x[0]), low0 = kM0 * x[0], high1 = mulhi(kM1, x[2]), low1 = kM1 * x[2];
    x[0] = high1 ^ x[1] ^ seed.a;
    x[1] = low1;
    x[2] = high0 ^ x[3] ^ seed.b;
    x[3] = low0;
  }
}

// The words of a batch.
void draws(Seed seed, uint32_t batch, uint32_t segment, uint32_t row, Purpose purpose, uint32_t* out);

constexpr int kLogBits = 8, kNormalBits = 5;  // pieces in an octave of the two tables
constexpr int64_t kLogTable = 3 << kLogBits, kNormalTable = 32 * (3 << kNormalBits);

// A decreasing convex function on a piece of an octave, c0 - f (c1 - f c2).
struct Piece {
  uint32_t number, f;

  BRAINSIM_BOTH uint32_t value(const uint32_t* table) const {
    const uint32_t* c = table + 3 * number;
    return c[0] - mulhi(f, c[1] - mulhi(f, c[2]));
  }
};

// floor(log2 v) of the odd number v = 2 half + 1, from the exponent of a float that cannot round up: unlike a count of
// leading zeros, this vectorises.
BRAINSIM_BOTH inline uint32_t octave(uint32_t half) {
  const float f = static_cast<float>(static_cast<int32_t>(half & ~(half >> 1)));
  uint32_t bits;
  std::memcpy(&bits, &f, sizeof bits);
  const int32_t exponent = static_cast<int32_t>(bits >> 23) - 126;
  return exponent < 0 ? 0 : exponent;
}

// -ln U as a fixed-point number with 27 bits after the point, where U = (2 (w mod 2^31) + 1) / 2^32: what the table has
// for the piece, and whole octaves.
BRAINSIM_BOTH inline Piece log_piece(uint32_t word, uint32_t* whole) {
  constexpr uint32_t kLn2 = 93032640;  // ln 2 * 2^27
  const uint32_t half = word & 0x7fffffffu, e = 31 - octave(half), m = (2 * half + 1) << e;
  *whole = e * kLn2;
  return {(m >> (31 - kLogBits)) & ((1u << kLogBits) - 1), m << (kLogBits + 1)};
}

// A standard normal number with 28 bits after the point: the quantile at U / 2, its sign the highest bit of the word.
BRAINSIM_BOTH inline Piece normal_piece(uint32_t word) {
  const uint32_t half = word & 0x7fffffffu, o = octave(half), m = (2 * half + 1) << (31 - o);
  return {(o << kNormalBits) + ((m >> (31 - kNormalBits)) & ((1u << kNormalBits) - 1)), m << (kNormalBits + 1)};
}
BRAINSIM_BOTH inline int32_t with_sign(uint32_t word, uint32_t z) {
  const int32_t sign = static_cast<int32_t>(word) >> 31;
  return (static_cast<int32_t>(z) ^ sign) - sign;
}
template <typename T>
BRAINSIM_BOTH T normal_of(int32_t fixed) {
  return static_cast<T>(fixed) * T(1.0 / (1 << 28));
}
template <typename T>
BRAINSIM_BOTH T uniform_of(uint32_t word) {
  return static_cast<T>(static_cast<int32_t>(word >> 8)) * T(1.0 / (1 << 24));
}

// The same for the words of a batch.
void negative_logs(const uint32_t* words, const uint32_t* table, uint32_t* out);
void fixed_normals(const uint32_t* words, const uint32_t* table, int32_t* out);

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
    for (int64_t j = 0; j < m; ++j) out[i + j] = normal_of<T>(fixed[j]);
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
