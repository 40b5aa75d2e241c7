// The event operators on rows of synapses that are drawn when they are needed and never stored. What is drawn, and what
// scatter, gather and outer are of it, is written down in brainsim/events/_draws.py; the integers agree bit for bit.
//
// Threads share the segments of the rows where these are ranges of targets, so that nobody writes where another does;
// or the elements of a batch; or blocks of rows where every row has its own result. The numbers of threads change no
// bit.
#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <vector>

#include "brainsim/batch.h"
#include "brainsim/graph.h"
#include "brainsim/handler.h"
#include "brainsim/operands.h"
#include "brainsim/parallel.h"
#include "brainsim/random.h"

namespace brainsim {
namespace {

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

  int64_t place(uint32_t target) const { return now + step * target; }

  int64_t length() const { return std::max<int64_t>(1, kind == kSome ? segments * kDraws * 3 / 4 : k); }  // about

  // Calls f(target, x) for the synapses of a row in segments low..high-1; x is 0 unless weights are drawn.
  template <typename T, bool kDrawn, typename F>
  void for_row(uint32_t row, uint32_t low, uint32_t high, F&& f) const {
    const int64_t own = twin == kNone ? -1 : row + twin;
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
    const bool holed = own >= 0 && own < n;
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
    const uint32_t m = multiplier, most = span;
    for (int i = 0; i < kDraws; ++i) {
      const uint32_t gap = static_cast<uint64_t>(mulhi(out[i], m)) >> shift;
      out[i] = std::min(gap, most);
    }
  }

  // Targets with 64 random bits each.
  void repeated(uint32_t segment, uint32_t row, uint32_t choice, uint32_t* out) const {
    uint32_t low[kDraws];
    draws(seed, 0, segment, row, kRows, out);
    draws(seed, 0, segment, row, kFine, low);
    for (int i = 0; i < kDraws; ++i) {
      out[i] = (static_cast<uint64_t>(out[i]) * choice + mulhi(low[i], choice)) >> 32;
    }
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
    const uint32_t low_bits = bits - bits / 2, high_bits = bits / 2;
    for (int i = 0; i < n; ++i) {
      uint32_t low = x[i] & ((1u << low_bits) - 1), high = x[i] >> low_bits;
      for (int round = 0; round < kRounds; round += 2) {
        high ^= mix(low, keys + 2 * round) >> (32 - high_bits);
        low ^= mix(high, keys + 2 * round + 2) >> (32 - low_bits);
      }
      x[i] = high << low_bits | low;
    }
  }

  static uint32_t mix(uint32_t x, const uint32_t* key) {
    const uint32_t h = (x + key[1]) * (key[0] | 1);
    return (h ^ (h >> 15)) * 0x2C1B3C6Du;
  }

  template <typename T>
  void basis(uint32_t batch, uint32_t segment, uint32_t row, T* x) const {
    uint32_t words[kDraws];
    draws(seed, batch, segment, row, kWeights, words);
    if (law == kUniform) {
      for (int j = 0; j < kDraws; ++j) x[j] = static_cast<T>(static_cast<int32_t>(words[j] >> 8)) * T(1.0 / (1 << 24));
      return;
    }
    int32_t fixed[kDraws];
    fixed_normals(words, normals, fixed);
    for (int j = 0; j < kDraws; ++j) x[j] = static_cast<T>(fixed[j]) * T(1.0 / (1 << 28));
  }
};

// The operands slot, seed and tables and the attributes, which the three operators end with.
class Plan {
 public:
  Plan(const ffi::AnyBuffer& slot, const ffi::AnyBuffer& seed, const ffi::AnyBuffer& tables, const Batch& batch,
       ffi::Dictionary attributes, int64_t depth, int64_t n_post)
      : slot_(slot, batch), seed_(seed, batch), tables_(tables, batch), depth_(depth), n_post_(n_post) {
    auto get = [&](const char* name) {
      auto value = attributes.get<int64_t>(name);
      ok_ = ok_ && value.has_value();
      return value.has_value() ? *value : 0;
    };
    rows_ = Rows{get("first"), get("n_pre"), get("n"),    get("kind"), get("k"),        get("law"),
                 get("twin"),  get("start"), get("step"), get("span"), get("segments"), get("multiplier"),
                 get("shift"), get("bits"),  0,           Seed{},      nullptr,         nullptr};
  }

  bool fit(int64_t n_value) const {
    const int64_t last = rows_.n > 0 ? rows_.start + rows_.step * (rows_.n - 1) : 0;
    return ok_ && slot_.size() == 1 && seed_.size() == 2 &&
           tables_.size() >= kLogTable + (rows_.law == kNormal ? kNormalTable : 0) && rows_.first >= 0 &&
           rows_.n_pre >= 0 && n_value >= rows_.first + rows_.n_pre && rows_.start >= 0 && last >= 0 &&
           (rows_.n == 0 || last < n_post_) && rows_.bits >= 2 && rows_.bits <= 31;
  }

  bool drawn() const { return rows_.law != kOne; }
  int64_t n_weight() const { return drawn() ? 2 : 1; }

  Rows at(const Axes& coordinates) const {
    Rows rows = rows_;
    const int64_t s = depth_ > 0 ? *slot_.at(coordinates) % depth_ : 0;
    rows.now = (s < 0 ? s + depth_ : s) * n_post_ + rows.start;
    const uint32_t* seed = seed_.at(coordinates);
    rows.seed = Seed{seed[0], seed[1]};
    rows.logs = tables_.at(coordinates);
    rows.normals = rows.logs + kLogTable;
    return rows;
  }

 private:
  View<const int32_t> slot_;
  View<const uint32_t> seed_, tables_;
  int64_t depth_, n_post_;
  Rows rows_;
  bool ok_ = true;
};

// One batch element.
template <typename T>
struct Element {
  T* out;
  const T* value;  // of row 0
  const T* c;
  const T* weight;
  Rows rows;
  std::vector<int32_t> active;
};

template <typename T>
std::vector<int32_t> active_rows(const T* values, const uint32_t* words, const Rows& rows) {
  std::vector<int32_t> active;
  Active<T>{values + rows.first, words, rows.first}.each(0, rows.n_pre,
                                                         [&](int64_t i) { active.push_back(static_cast<int32_t>(i)); });
  return active;
}

template <typename T>
void scatter_segments(const Element<T>& e, uint32_t low, uint32_t high) {
  const Rows& rows = e.rows;
  T* out = e.out;
  for (int32_t i : e.active) {
    if (rows.law == kOne) {
      const T amount = e.value[i] * e.weight[0];
      rows.for_row<T, false>(i, low, high, [&](uint32_t to, T) { out[rows.place(to)] += amount; });
    } else {
      const T amount = e.value[i], w0 = e.weight[0], w1 = e.weight[1];
      rows.for_row<T, true>(i, low, high, [&](uint32_t to, T x) { out[rows.place(to)] += amount * (w0 + w1 * x); });
    }
  }
}

// The sums of c and, where weights are drawn, of x c over the synapses of a row.
template <typename T>
std::array<T, 2> sums(uint32_t i, const T* c, const Rows& rows) {
  T plain = 0, drawn = 0;
  if (rows.law == kOne) {
    rows.for_row<T, false>(i, 0, rows.segments, [&](uint32_t to, T) { plain += c[rows.place(to)]; });
  } else {
    rows.for_row<T, true>(i, 0, rows.segments, [&](uint32_t to, T x) {
      const T arrived = c[rows.place(to)];
      plain += arrived;
      drawn += x * arrived;
    });
  }
  return {plain, drawn};
}

ffi::Error scatter(ffi::ThreadPool pool, ffi::AnyBuffer base, ffi::AnyBuffer value, ffi::AnyBuffer weight,
                   ffi::AnyBuffer words, ffi::AnyBuffer slot, ffi::AnyBuffer seed, ffi::AnyBuffer tables,
                   ffi::Result<ffi::AnyBuffer> out, ffi::Dictionary attributes) {
  auto dims = base.dimensions();
  if (dims.size() < 2) return ffi::Error::InvalidArgument("drawn scatter: base needs a depth and a size");
  const int64_t depth = dims[dims.size() - 2], n_post = dims[dims.size() - 1];
  Batch batch(dims.size() - 2);
  batch.with(base).with(value).with(weight).with(words).with(slot).with(seed).with(tables);
  if (!batch.ok()) return ffi::Error::InvalidArgument("drawn scatter: batch axes do not fit");
  auto same = {value.element_type(), weight.element_type(), out->element_type()};
  return for_float_type(base.element_type(), same, [&](auto zero) {
    using T = decltype(zero);
    View<T> to(*out, batch);
    View<const T> from(base, batch), v(value, batch), w(weight, batch);
    Plan plan(slot, seed, tables, batch, attributes, depth, n_post);
    Words packed(words, batch, v.size());
    if (!plan.fit(v.size()) || !packed.fit() || w.size() != plan.n_weight()) {
      return ffi::Error::InvalidArgument("drawn scatter: lengths do not fit");
    }
    if (to.data() != from.data() && to.total() > 0) std::memcpy(to.data(), from.data(), to.total() * sizeof(T));
    if (to.size() == 0) return ffi::Error::Success();
    std::vector<Element<T>> elements;
    int64_t work = 0;
    batch.each([&](const Axes& b) {
      const Rows rows = plan.at(b);
      auto active = active_rows(v.at(b), packed.at(b), rows);
      work += active.size() * rows.length();
      elements.push_back({to.at(b), v.at(b) + rows.first, nullptr, w.at(b), rows, std::move(active)});
    });
    if (elements.empty()) return ffi::Error::Success();
    const int64_t threads = work < kWorthSharing ? 1 : pool.num_threads(), n = elements.size();
    const int64_t segments = elements[0].rows.segments;
    const bool apart = to.total() == to.size() * n;
    if (threads > 1 && apart && (n >= threads || elements[0].rows.kind != kSome)) {
      parallel_for(pool, n, [&](int64_t e) { scatter_segments<T>(elements[e], 0, segments); });
      return ffi::Error::Success();
    }
    const int64_t parts = elements[0].rows.kind == kSome ? std::max<int64_t>(1, std::min(threads, segments)) : 1;
    parallel_for(pool, parts, [&](int64_t part) {
      for (const auto& e : elements) scatter_segments<T>(e, segments * part / parts, segments * (part + 1) / parts);
    });
    return ffi::Error::Success();
  });
}

ffi::Error gather(ffi::ThreadPool pool, ffi::AnyBuffer c, ffi::AnyBuffer weight, ffi::AnyBuffer mask,
                  ffi::AnyBuffer slot, ffi::AnyBuffer seed, ffi::AnyBuffer tables, ffi::Result<ffi::AnyBuffer> out,
                  ffi::Dictionary attributes) {
  auto dims = c.dimensions();
  if (dims.size() < 2) return ffi::Error::InvalidArgument("drawn gather: c needs a depth and a size");
  const int64_t depth = dims[dims.size() - 2], n_post = dims[dims.size() - 1];
  Batch batch(dims.size() - 2);
  batch.with(c).with(weight).with(mask).with(slot).with(seed).with(tables);
  if (!batch.ok()) return ffi::Error::InvalidArgument("drawn gather: batch axes do not fit");
  return for_float_type(c.element_type(), {weight.element_type(), out->element_type()}, [&](auto zero) {
    using T = decltype(zero);
    View<T> to(*out, batch);
    View<const T> from(c, batch), w(weight, batch);
    View<const bool> wanted(mask, batch);
    Plan plan(slot, seed, tables, batch, attributes, depth, n_post);
    if (!plan.fit(to.size()) || w.size() != plan.n_weight() || (wanted.size() != 0 && wanted.size() != to.size())) {
      return ffi::Error::InvalidArgument("drawn gather: lengths do not fit");
    }
    batch.each([&](const Axes& b) {
      const Rows rows = plan.at(b);
      const T *arrivals = from.at(b), *theta = w.at(b);
      const bool* rows_wanted = wanted.size() == 0 ? nullptr : wanted.at(b);
      T* result = to.at(b);
      std::fill_n(result, to.size(), T(0));
      const int64_t block = row_block(rows.length());
      parallel_for(pool, (rows.n_pre + block - 1) / block, [&](int64_t k) {
        for (int64_t i = k * block; i < std::min((k + 1) * block, rows.n_pre); ++i) {
          if (rows_wanted != nullptr && !rows_wanted[rows.first + i]) continue;
          const auto sum = sums<T>(i, arrivals, rows);
          result[rows.first + i] = theta[0] * sum[0] + (plan.drawn() ? theta[1] * sum[1] : T(0));
        }
      });
    });
    return ffi::Error::Success();
  });
}

ffi::Error outer(ffi::ThreadPool pool, ffi::AnyBuffer value, ffi::AnyBuffer c, ffi::AnyBuffer words,
                 ffi::AnyBuffer slot, ffi::AnyBuffer seed, ffi::AnyBuffer tables, ffi::Result<ffi::AnyBuffer> out,
                 ffi::Dictionary attributes) {
  auto dims = c.dimensions();
  if (dims.size() < 2) return ffi::Error::InvalidArgument("drawn outer: c needs a depth and a size");
  const int64_t depth = dims[dims.size() - 2], n_post = dims[dims.size() - 1];
  Batch batch(dims.size() - 2);
  batch.with(value).with(c).with(words).with(slot).with(seed).with(tables).with(*out);
  if (!batch.ok()) return ffi::Error::InvalidArgument("drawn outer: batch axes do not fit");
  return for_float_type(c.element_type(), {value.element_type(), out->element_type()}, [&](auto zero) {
    using T = decltype(zero);
    View<T> to(*out, batch);
    View<const T> from(c, batch), v(value, batch);
    Plan plan(slot, seed, tables, batch, attributes, depth, n_post);
    Words packed(words, batch, v.size());
    if (!plan.fit(v.size()) || !packed.fit() || to.size() != plan.n_weight()) {
      return ffi::Error::InvalidArgument("drawn outer: lengths do not fit");
    }
    std::fill_n(to.data(), to.total(), T(0));
    batch.each([&](const Axes& b) {
      const Rows rows = plan.at(b);
      const T *values = v.at(b) + rows.first, *arrivals = from.at(b);
      const auto active = active_rows(v.at(b), packed.at(b), rows);
      const int64_t block = row_block(rows.length()), n = active.size(), blocks = (n + block - 1) / block;
      std::vector<std::array<T, 2>> partial(blocks);
      parallel_for(pool, blocks, [&](int64_t k) {
        std::array<T, 2> total = {};
        for (int64_t a = k * block; a < std::min((k + 1) * block, n); ++a) {
          const auto sum = sums<T>(active[a], arrivals, rows);
          for (int p = 0; p < 2; ++p) total[p] += values[active[a]] * sum[p];
        }
        partial[k] = total;
      });
      for (const auto& total : partial) {
        for (int p = 0; p < plan.n_weight(); ++p) to.at(b)[p] += total[p];
      }
    });
    return ffi::Error::Success();
  });
}

}  // namespace
}  // namespace brainsim

BRAINSIM_HANDLER(brainsim_drawn_scatter, brainsim::scatter,
                 xla::ffi::Ffi::Bind()
                     .Ctx<xla::ffi::ThreadPool>()
                     .Arg<xla::ffi::AnyBuffer>()  // base
                     .Arg<xla::ffi::AnyBuffer>()  // value
                     .Arg<xla::ffi::AnyBuffer>()  // weight
                     .Arg<xla::ffi::AnyBuffer>()  // words
                     .Arg<xla::ffi::AnyBuffer>()  // slot
                     .Arg<xla::ffi::AnyBuffer>()  // seed
                     .Arg<xla::ffi::AnyBuffer>()  // tables
                     .Ret<xla::ffi::AnyBuffer>()  // base, in place
                     .Attrs());

BRAINSIM_HANDLER(brainsim_drawn_gather, brainsim::gather,
                 xla::ffi::Ffi::Bind()
                     .Ctx<xla::ffi::ThreadPool>()
                     .Arg<xla::ffi::AnyBuffer>()  // c
                     .Arg<xla::ffi::AnyBuffer>()  // weight
                     .Arg<xla::ffi::AnyBuffer>()  // mask
                     .Arg<xla::ffi::AnyBuffer>()  // slot
                     .Arg<xla::ffi::AnyBuffer>()  // seed
                     .Arg<xla::ffi::AnyBuffer>()  // tables
                     .Ret<xla::ffi::AnyBuffer>()
                     .Attrs());

BRAINSIM_HANDLER(brainsim_drawn_outer, brainsim::outer,
                 xla::ffi::Ffi::Bind()
                     .Ctx<xla::ffi::ThreadPool>()
                     .Arg<xla::ffi::AnyBuffer>()  // value
                     .Arg<xla::ffi::AnyBuffer>()  // c
                     .Arg<xla::ffi::AnyBuffer>()  // words
                     .Arg<xla::ffi::AnyBuffer>()  // slot
                     .Arg<xla::ffi::AnyBuffer>()  // seed
                     .Arg<xla::ffi::AnyBuffer>()  // tables
                     .Ret<xla::ffi::AnyBuffer>()
                     .Attrs());
