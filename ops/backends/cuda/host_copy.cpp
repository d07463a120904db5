#include "ops/backends/cuda/host_copy.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <system_error>
#include <thread>
#include <utility>

#include "kernel/base/available_memory.hpp"
#include "kernel/base/text.hpp"
#include "ops/backends/cuda/side_stream.hpp"

namespace troupe::ops::cuda {
namespace {

constexpr std::uint64_t large_page = std::uint64_t{2} << 20;
constexpr std::uint64_t piece_bytes = std::uint64_t{32} << 20;
constexpr std::uint64_t part_bytes = std::uint64_t{16} << 20;
constexpr std::uint64_t left_to_others = std::uint64_t{1} << 30;  // of the host's memory
constexpr unsigned most_threads = 12;

unsigned makers() {
  return std::clamp(std::thread::hardware_concurrency(), 1u, most_threads);
}

void fill_in_pages(char* at, std::uint64_t bytes) {
#ifdef MADV_POPULATE_WRITE
  if (::madvise(at, bytes, MADV_POPULATE_WRITE) == 0) return;
#endif
  const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  for (std::uint64_t i = 0; i < bytes; i += page) *static_cast<volatile char*>(at + i) = 0;
}

// Copies a part at a time and waits for it. With two on their way the steps of another model, whose inputs go through the same copy engine,
// stood still for most of a wake.
result<void> copy(const side_stream& over, char* to, const char* from, std::uint64_t bytes,
                  cudaMemcpyKind way) {
  for (std::uint64_t at = 0; at < bytes; at += part_bytes) {
    const auto part = std::min(part_bytes, bytes - at);
    if (auto done =
            ok(cudaMemcpyAsync(to + at, from + at, part, way, over.get()), "cudaMemcpyAsync of weights");
        !done)
      return done;
    if (auto done = ok(cudaStreamSynchronize(over.get()), "a copy of weights"); !done) return done;
  }
  return {};
}

}  // namespace

// Threads that make the pieces ready, in their order.
class host_copy::maker {
 public:
  explicit maker(std::vector<piece>& pieces) : pieces_(pieces), ready_(pieces.size()) {
    try {
      for (unsigned i = 0; i < makers(); ++i) threads_.emplace_back([this] { work(); });
    } catch (const std::system_error&) {  // no more threads: those that there are do it
    }
    if (threads_.empty()) work();
  }
  ~maker() {
    next_ = pieces_.size();
    for (auto& one : threads_) one.join();
  }
  maker(const maker&) = delete;
  maker& operator=(const maker&) = delete;

  const piece& wait_for(std::size_t number) {
    ready_[number].wait(false);
    return pieces_[number];
  }

 private:
  void work() {
    for (std::size_t i = next_++; i < pieces_.size(); i = next_++) {
      piece& own = pieces_[i];
      fill_in_pages(own.at, own.bytes);
      own.registered = cudaHostRegister(own.at, own.bytes, cudaHostRegisterDefault) == cudaSuccess;
      if (!own.registered) (void)cudaGetLastError();
      ready_[i] = true;
      ready_[i].notify_one();
    }
  }

  std::vector<piece>& pieces_;
  std::vector<std::atomic<bool>> ready_;
  std::atomic<std::size_t> next_{0};
  std::vector<std::thread> threads_;
};

result<void> host_copy::reserve(std::uint64_t bytes) {
  const auto available = available_memory();
  if (available && bytes + left_to_others > *available)
    return fail(error_code::no_room, "{} wanted, {} of host memory are available, {} of it for others",
                human_bytes(bytes), human_bytes(*available), human_bytes(left_to_others));
  const std::size_t wanted = bytes + large_page;
  void* mapping =
      ::mmap(nullptr, wanted, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED)
    return fail(error_code::no_room, "no addresses for {} of host memory", human_bytes(bytes));
  mapping_ = mapping;
  mapped_ = wanted;
  bytes_ = bytes;
  const auto address = reinterpret_cast<std::uintptr_t>(mapping);
  char* first = static_cast<char*>(mapping) + (large_page - address % large_page) % large_page;
  (void)::madvise(first, bytes, MADV_HUGEPAGE);
  for (std::uint64_t at = 0; at < bytes; at += piece_bytes)
    pieces_.push_back({first + at, std::min(piece_bytes, bytes - at), false});
  return {};
}

result<std::unique_ptr<host_copy>> host_copy::take(const char* device, std::uint64_t bytes) {
  std::unique_ptr<host_copy> made(new host_copy);
  if (auto done = made->reserve(bytes); !done) return fail(std::move(done.error()));
  auto over = side_stream::open();
  if (!over) return fail(std::move(over.error()));
  {
    maker pieces(made->pieces_);
    for (std::size_t i = 0; i < made->pieces_.size(); ++i) {
      const piece& to = pieces.wait_for(i);
      if (auto done = copy(*over, to.at, device + i * piece_bytes, to.bytes, cudaMemcpyDeviceToHost); !done)
        return fail(std::move(done.error()));
    }
  }
  return made;
}

result<void> host_copy::bring_back(char* device) const {
  auto over = side_stream::open();
  if (!over) return fail(std::move(over.error()));
  for (std::size_t i = 0; i < pieces_.size(); ++i)
    if (auto done =
            copy(*over, device + i * piece_bytes, pieces_[i].at, pieces_[i].bytes, cudaMemcpyHostToDevice);
        !done)
      return done;
  return {};
}

std::uint64_t host_copy::registered_bytes() const {
  std::uint64_t bytes = 0;
  for (const auto& one : pieces_) bytes += one.registered ? one.bytes : 0;
  return bytes;
}

host_copy::~host_copy() {
  for (const auto& one : pieces_)
    if (one.registered) cudaHostUnregister(one.at);
  if (mapping_ != nullptr) ::munmap(mapping_, mapped_);
}

}  // namespace troupe::ops::cuda
