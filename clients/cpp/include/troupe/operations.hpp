// For operators: changes what a server serves, and tells what was changed. docs/live_operation.md explains the words.
//
//   troupe::client::operations server(troupe::client::connect("tcp://127.0.0.1:7410"));
//   auto done = server.load("/models/fox");
//   for (const auto& line : done.report) std::cout << line << '\n';
//
// Threads, errors: as in client.hpp. Further codes: conflict, busy, no_room.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "troupe/client.hpp"

namespace troupe::client {

struct operated {
  operation_info info;
  std::vector<std::string> report;  // for people
  std::uint64_t bytes_loaded = 0;
  std::uint64_t bytes_freed = 0;
  std::uint32_t streams_finished = 0;
  std::uint32_t streams_ended = 0;
};

struct operation_options {
  std::optional<std::uint64_t> expected_generation;  // 0 = the model must not be served; absent = any
  bool dry_run = false;
  bool queue = false;  // wait behind another operation on the model; else `busy`
};

// Each change of an operation, as it happens.
class event_stream {
 public:
  event_stream(event_stream&&) noexcept;
  event_stream& operator=(event_stream&&) noexcept;
  ~event_stream();

  // Nothing: none came within `timeout`. Throws when the connection or the server has ended it.
  std::optional<operation_info> next(milliseconds timeout = forever);

 private:
  friend class operations;
  struct state;
  explicit event_stream(std::unique_ptr<state> s);
  std::unique_ptr<state> state_;
};

class operations {
 public:
  explicit operations(connection to);

  // Wait for the operation's end, however long it takes. `checkpoint`: an absolute path on the server's machine. `model`: empty = the
  // folder's name. `max_context`: 0 = the model's.
  operated load(const std::string& checkpoint, const std::string& model = {}, std::uint32_t max_context = 0,
                const operation_options& how = {}) const;
  // `deadline`: how long streams may go on; 0 = to their end.
  operated unload(const std::string& model, milliseconds deadline = milliseconds(0),
                  const operation_options& how = {}) const;

  // Oldest first, those under way last. `model` empty = all; `limit` 0 = all that are kept.
  std::vector<operation_info> history(const std::string& model = {}, std::uint32_t limit = 0) const;
  event_stream events(const std::string& model = {}) const;

 private:
  std::shared_ptr<link> link_;
};

}  // namespace troupe::client
