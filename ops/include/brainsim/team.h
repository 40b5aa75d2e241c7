// Threads that stay together for one call of many short pieces of work.
#ifndef BRAINSIM_TEAM_H_
#define BRAINSIM_TEAM_H_

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <type_traits>
#include <unordered_map>

#include "brainsim/parallel.h"

namespace brainsim {

inline void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// The caller and threads lent by a pool that look for work until the team is gone. Waking a thread up takes as long as
// many of these pieces; a thread that looks has begun within a tenth of a microsecond.
class Team {
 public:
  // A team of the caller alone unless `worth`; `alone`: its threads come when they are asked for.
  template <typename Pool>
  Team(Pool& pool, bool worth, bool alone = false)
      : threads_(worth ? pool.num_threads() : 1),
        lend_([&pool](std::function<void()> help) { pool.Schedule(std::move(help)); }) {
    this->alone(alone);
  }
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;
  ~Team() { alone(true); }

  int64_t num_threads() const { return shared_ ? threads_ : 1; }

  // Whether the caller does everything itself from now on: the others leave, or are asked for.
  void alone(bool yes) {
    if (threads_ < 2 || yes == !shared_) return;
    if (yes) {
      shared_->over.store(true, std::memory_order_release);
      shared_.reset();
      return;
    }
    shared_ = std::make_shared<Shared>();
    for (int64_t k = 1; k < threads_; ++k) lend_([shared = shared_] { help(*shared); });
  }

  // Calls f(k) for k = 0..n-1, in any order. The caller takes what nobody else has taken and waits only for what
  // another has begun, so a thread that the pool cannot spare is not missed.
  template <typename F>
  void run(int64_t n, F&& f) {
    if (num_threads() < 2 || n < 2 || n > kMost) {
      for (int64_t k = 0; k < n; ++k) f(k);
      return;
    }
    Shared& s = *shared_;
    s.call = [](const void* f, int64_t k) { (*static_cast<const std::remove_reference_t<F>*>(f))(k); };
    s.what = &f;
    s.done.store(0, std::memory_order_relaxed);
    // number of the job, end and begin of the pieces left: in one word, so that nobody takes a piece of a job that is
    // over
    s.state.store(++job_ << 32 | static_cast<uint64_t>(n) << 16, std::memory_order_release);
    while (take<true>(s)) {
    }
    while (s.done.load(std::memory_order_acquire) < n) relax();
  }

 private:
  static constexpr int64_t kMost = 0xffff;
  static constexpr int kPatience = 4096;  // looks before another thread of the machine may have the processor

  struct Shared {  // what different threads write lies on lines of its own
    alignas(64) std::atomic<uint64_t> state{0};
    alignas(64) std::atomic<int64_t> done{0};
    alignas(64) std::atomic<bool> over{false};
    void (*call)(const void*, int64_t) = nullptr;
    const void* what = nullptr;
  };

  // The caller takes pieces from the front and the others from the back: in job after job over the same arrays, each
  // finds in its own cache what it has left there.
  template <bool kFront>
  static bool take(Shared& s) {
    uint64_t state = s.state.load(std::memory_order_acquire);
    for (;;) {
      const uint64_t begin = state & 0xffff, end = state >> 16 & 0xffff;
      if (begin >= end) return false;
      const uint64_t left = kFront ? state + 1 : state - (1 << 16);
      if (!s.state.compare_exchange_weak(state, left, std::memory_order_acq_rel)) continue;
      s.call(s.what, kFront ? begin : end - 1);  // not over before this piece is: they are those of its job
      s.done.fetch_add(1, std::memory_order_release);
      return true;
    }
  }

  static void help(Shared& s) {
    for (int looks = 0; !s.over.load(std::memory_order_acquire); ++looks) {
      if (take<false>(s)) {
        looks = 0;
      } else if (looks < kPatience) {
        relax();
      } else {
        std::this_thread::yield();
      }
    }
  }

  int64_t threads_;
  std::function<void(std::function<void()>)> lend_;
  uint64_t job_ = 0;
  std::shared_ptr<Shared> shared_;
};

// Finds out by trying, every so many steps of a program, whether a team is faster than its caller alone: where the
// processors share no cache, or have other work, it is not. It must be faster by a tenth, as it takes more processors.
class Trial {
 public:
  // `program`: a number of its own for each; what was found out is remembered by it.
  explicit Trial(uint64_t program) : program_(program) {
    const std::lock_guard<std::mutex> lock(mutex());
    known_ = memory()[program];
  }
  Trial(const Trial&) = delete;
  Trial& operator=(const Trial&) = delete;
  ~Trial() {
    const std::lock_guard<std::mutex> lock(mutex());
    memory()[program_] = known_;
  }

  // Whether the caller alone was faster when it was last tried.
  bool alone() const { return known_.alone; }

  // Calls f, a step, which `team` does.
  template <typename F>
  void step(Team& team, F&& f) {
    // once more after a short while, as a network may begin with silence
    const int64_t t = known_.step++, k = t < kSoon ? t : (t - kSoon) % kPeriod;
    if (k >= 2 * kTried) return f();
    const bool together = k >= kTried;
    team.alone(!together);
    const auto start = std::chrono::steady_clock::now();
    f();
    known_.took[together][k % kTried] = (std::chrono::steady_clock::now() - start).count();
    if (k + 1 < 2 * kTried) return;
    known_.alone = 9 * median(known_.took[0]) < 10 * median(known_.took[1]);
    team.alone(known_.alone);
  }

 private:
  // Steps of either kind that are tried, of which the first find the caches as the others left them, or wait for
  // threads.
  static constexpr int64_t kTried = 14, kSettled = 7, kSoon = 400, kPeriod = 2400;
  using Times = std::array<int64_t, kTried>;
  struct Known {
    int64_t step = 0;
    bool alone = false;
    Times took[2] = {};
  };

  static std::mutex& mutex() {
    static std::mutex mutex;
    return mutex;
  }

  static std::unordered_map<uint64_t, Known>& memory() {  // never taken down: threads may outlive the end of main
    static auto* memory = new std::unordered_map<uint64_t, Known>;
    return *memory;
  }

  static int64_t median(Times took) {
    const auto middle = took.begin() + (kSettled + kTried) / 2;
    std::nth_element(took.begin() + kSettled, middle, took.end());
    return *middle;
  }

  uint64_t program_;
  Known known_;
};

template <typename F>
void parallel_for(Team& team, int64_t n, F&& f) {
  team.run(n, f);
}

// Pieces of a job for each thread: to take one costs a tenth of a microsecond, and one alone would leave nothing to
// share where a thread is late.
constexpr int64_t kPieces = 2;

// Units a step from which a team is worth its threads.
constexpr int64_t kWorkWorthATeam = 1 << 14;

// A team is there already, and whoever sends to a unit should be who updates it: less work is worth sharing.
inline int64_t worth_sharing(const Team&) { return kWorthSharing / 128; }

}  // namespace brainsim

#endif  // BRAINSIM_TEAM_H_
