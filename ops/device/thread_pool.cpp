#include "ops/device/thread_pool.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <string>

#include "ops/device/pause.hpp"

namespace troupe::ops {
namespace {

constexpr std::size_t parts_per_thread = 4;    // so that threads that start late or run slowly take less
constexpr unsigned spins_before_sleep = 1000;  // about 50 us
constexpr unsigned spins_before_yield = 2000;

constexpr std::uint64_t parts_of(std::uint64_t state) {
  return state >> 16 & 0xffff;
}
constexpr std::uint64_t taken_of(std::uint64_t state) {
  return state & 0xffff;
}
constexpr bool has_open_part(std::uint64_t state) {
  return taken_of(state) < parts_of(state);
}

// Cores that this process may use: those it may run on, or less if its control group has a quota (version 2,
// file "cpu.max": microseconds of each period, or "max").
unsigned available_cores() {
  const unsigned cores = std::max(1u, std::thread::hardware_concurrency());
  std::ifstream file("/sys/fs/cgroup/cpu.max");
  std::string quota;
  double period = 0;
  if (!(file >> quota >> period) || quota == "max" || period <= 0) return cores;
  return std::clamp(static_cast<unsigned>(std::ceil(std::atof(quota.c_str()) / period)), 1u, cores);
}

}  // namespace

thread_pool::thread_pool(unsigned threads) {
  if (threads == 0) threads = available_cores();
  try {
    for (unsigned worker = 1; worker < threads; ++worker)
      workers_.emplace_back([this, worker] { work(worker); });
  } catch (...) {
    stop();
    throw;
  }
}

thread_pool::~thread_pool() {
  stop();
}

void thread_pool::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_.store(true);
  }
  wake_.notify_all();
  for (auto& worker : workers_) worker.join();
}

void thread_pool::run(std::size_t count, std::size_t grain, void* context, part_function function) {
  if (count == 0) return;
  grain = std::max<std::size_t>(grain, 1);
  const std::size_t most = std::min(count / grain, std::size_t{size()} * parts_per_thread);
  if (most <= 1 || workers_.empty()) return function(context, 0, count, 0);

  const std::size_t part_size = (count + most - 1) / most;
  const std::uint64_t parts = (count + part_size - 1) / part_size;
  function_.store(function, std::memory_order_relaxed);
  context_.store(context, std::memory_order_relaxed);
  count_.store(count, std::memory_order_relaxed);
  part_size_.store(part_size, std::memory_order_relaxed);
  done_.store(0, std::memory_order_relaxed);
  const std::uint64_t job = (state_.load(std::memory_order_relaxed) >> 32) + 1;
  publish(job << 32 | parts << 16);

  while (take_part(0)) {
  }
  for (unsigned spins = 0; done_.load(std::memory_order_acquire) != parts; ++spins) {
    if (spins < spins_before_yield) {
      pause_briefly();
    } else {
      std::this_thread::yield();
    }
  }
}

// Sequentially consistent with work(): either a worker sees the state before it sleeps, or it is counted
// here.
void thread_pool::publish(std::uint64_t state) {
  state_.store(state, std::memory_order_seq_cst);
  if (sleepers_.load(std::memory_order_seq_cst) == 0) return;
  { const std::lock_guard lock(mutex_); }
  wake_.notify_all();
}

bool thread_pool::take_part(unsigned worker) {
  std::uint64_t state = state_.load(std::memory_order_acquire);
  while (has_open_part(state)) {
    const auto function = function_.load(std::memory_order_relaxed);
    void* const context = context_.load(std::memory_order_relaxed);
    const std::size_t count = count_.load(std::memory_order_relaxed);
    const std::size_t part_size = part_size_.load(std::memory_order_relaxed);
    if (!state_.compare_exchange_weak(state, state + 1, std::memory_order_acq_rel, std::memory_order_acquire))
      continue;
    const std::size_t begin = taken_of(state) * part_size;
    function(context, begin, std::min(count, begin + part_size), worker);
    done_.fetch_add(1, std::memory_order_release);
    return true;
  }
  return false;
}

void thread_pool::work(unsigned worker) {
  unsigned spins = 0;
  while (!stopping_.load(std::memory_order_relaxed)) {
    if (take_part(worker)) {
      spins = 0;
      continue;
    }
    if (++spins < spins_before_sleep) {
      pause_briefly();
      continue;
    }
    std::unique_lock lock(mutex_);
    sleepers_.fetch_add(1, std::memory_order_seq_cst);
    wake_.wait(lock,
               [this] { return stopping_.load() || has_open_part(state_.load(std::memory_order_seq_cst)); });
    sleepers_.fetch_sub(1, std::memory_order_seq_cst);
    spins = 0;
  }
}

}  // namespace troupe::ops
