// The tokenizer workers of each model, as they come and go. No actor framework in here: a worker is whatever `Handle` says.
#pragma once

#include <charconv>
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

namespace troupe::gateway {

// The numbers of "<kind>/<a>" or "<kind>/<a>/<b>"; nothing if the id is of another form.
inline std::optional<std::vector<std::uint32_t>> numbers_of(std::string_view id, std::string_view kind) {
  if (!id.starts_with(kind)) return std::nullopt;
  id.remove_prefix(kind.size());
  std::vector<std::uint32_t> numbers;
  while (!id.empty()) {
    if (id.front() != '/') return std::nullopt;
    id.remove_prefix(1);
    std::uint32_t n = 0;
    const auto [end, problem] = std::from_chars(id.data(), id.data() + id.size(), n);
    if (problem != std::errc{}) return std::nullopt;
    id.remove_prefix(static_cast<std::size_t>(end - id.data()));
    numbers.push_back(n);
  }
  return numbers;
}

template <class Handle>
class worker_pool {
 public:
  explicit worker_pool(std::uint32_t workers) : workers_(workers) {}

  bool has(std::uint32_t worker) const { return worker < workers_.size(); }
  void set(std::uint32_t worker, Handle h) { workers_[worker] = std::move(h); }
  void clear(std::uint32_t worker) { workers_[worker] = Handle{}; }
  const Handle& at(std::uint32_t worker) const { return workers_[worker]; }
  std::uint32_t size() const { return static_cast<std::uint32_t>(workers_.size()); }

  // The worker for a new stream: the one whose turn it is, else the next that lives; -1 = none lives.
  int pick(std::uint64_t stream) const {
    for (std::uint32_t i = 0; i < size(); ++i) {
      const auto worker = static_cast<std::uint32_t>((stream + i) % size());
      if (workers_[worker]) return static_cast<int>(worker);
    }
    return -1;
  }

 private:
  std::vector<Handle> workers_;
};

}  // namespace troupe::gateway
