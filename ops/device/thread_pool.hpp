// All cores for one op at a time. Work is cut into parts of fixed bounds; threads take whole parts, the
// caller among them, so a thread that the system does not run delays nobody. Who takes which part is not
// determined: a part's results must not depend on it.
//
// Threads: one thread at a time calls parallel_for; bodies run on the workers and on the caller. Bodies don't
// throw and don't call the pool. Workers spin for some tens of microseconds after a job (the next op comes
// soon), then sleep.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace troupe::ops {

class thread_pool {
 public:
  // The caller counts: 1 starts no thread. 0 = all cores that the process may use. Throws std::system_error
  // if the system gives no more threads.
  explicit thread_pool(unsigned threads);
  ~thread_pool();
  thread_pool(const thread_pool&) = delete;
  thread_pool& operator=(const thread_pool&) = delete;

  unsigned size() const { return static_cast<unsigned>(workers_.size()) + 1; }

  // body(begin, end, worker) for ranges that cover [0, count) once; worker in [0, size()). A range has at
  // least `grain` items, the last one perhaps fewer; `count` <= `grain` runs on the caller without waking
  // anybody.
  template <class Body>
  void parallel_for(std::size_t count, std::size_t grain, Body&& body) {
    using plain = std::remove_reference_t<Body>;
    run(count, grain, const_cast<void*>(static_cast<const void*>(&body)),
        [](void* context, std::size_t begin, std::size_t end, unsigned worker) {
          (*static_cast<plain*>(context))(begin, end, worker);
        });
  }

 private:
  using part_function = void (*)(void* context, std::size_t begin, std::size_t end, unsigned worker);

  void run(std::size_t count, std::size_t grain, void* context, part_function function);
  void stop();
  bool take_part(unsigned worker);
  void work(unsigned worker);
  void publish(std::uint64_t state);

  // The job. Written only while no part is open; a worker that read it late finds `state_` changed and drops
  // it.
  std::atomic<part_function> function_{nullptr};
  std::atomic<void*> context_{nullptr};
  std::atomic<std::size_t> count_{0};
  std::atomic<std::size_t> part_size_{0};

  alignas(64) std::atomic<std::uint64_t> state_{0};  // job number << 32 | parts << 16 | parts taken
  alignas(64) std::atomic<std::uint32_t> done_{0};   // parts finished
  alignas(64) std::atomic<std::uint32_t> sleepers_{0};
  std::atomic<bool> stopping_{false};
  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<std::thread> workers_;
};

}  // namespace troupe::ops
