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
  std::uint32_t sequences_continued = 0;  // carried over a switch
  std::uint32_t sequences_recomputed = 0;
  std::uint64_t bytes_shared = 0;
  bool caches_kept = false;
  double pause_ms = 0;        // longest time between two tokens around the switch
  double usual_pause_ms = 0;  // median before it
};

// What becomes of sequences that run when a Program is replaced.
enum class move { automatic, carry, recompute, finish };

// How the candidate's results on probe prompts must compare with those of the version that runs.
enum class verify { exact, max_logit_diff, off };

struct swap_options {
  client::move move = client::move::automatic;
  milliseconds deadline{0};  // of finish: then they are recomputed; 0 = to their end
  client::verify verify = client::verify::exact;
  float max_logit_diff = 0;
  milliseconds probation{5000};  // promoted after so long without an alarm ...
  std::uint32_t probation_requests =
      0;  // ... or as soon as so many sequences have ended; 0 = only the time counts
};

struct deploy_options {
  std::string module;  // an absolute path; empty = the one that is installed
  std::uint32_t max_context = 0;
  std::uint32_t share_percent = 100;  // of new requests while on probation
  bool sticky = false;                // the share is one of clients
  client::move move = client::move::automatic;
  milliseconds deadline{0};
  client::verify verify = client::verify::off;
  float max_logit_diff = 0;
  milliseconds probation{10'000};
  std::uint32_t probation_requests = 0;
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

  // Another module builds the model's Program. `module`: an absolute path on the server's machine.
  operated swap(const std::string& model, const std::string& module, const swap_options& wanted = {},
                const operation_options& how = {}) const;
  // Other weights under the same name. `checkpoint`: an absolute path on the server's machine.
  operated deploy(const std::string& model, const std::string& checkpoint, const deploy_options& wanted = {},
                  const operation_options& how = {}) const;
  // Ends the probation of the operation under way as passed.
  operated promote(const std::string& model, const operation_options& how = {}) const;
  // On probation: takes it back. Else: back to the version before the last commit.
  operated rollback(const std::string& model, milliseconds deadline = milliseconds(0),
                    const operation_options& how = {}) const;
  // No new requests; the open ones end, or are ended at the deadline. sleep() gives the device's memory back, too:
  // the weights wait in host memory for wake(), or in their files.
  operated sleep(const std::string& model, milliseconds deadline = milliseconds(0),
                 const operation_options& how = {}) const;
  operated drain(const std::string& model, milliseconds deadline = milliseconds(0),
                 const operation_options& how = {}) const;
  operated wake(const std::string& model, const operation_options& how = {}) const;
  // Refuses operations on the model until it is unpinned.
  operated pin(const std::string& model, bool pinned = true, const operation_options& how = {}) const;

  // Oldest first, those under way last. `model` empty = all; `limit` 0 = all that are kept.
  std::vector<operation_info> history(const std::string& model = {}, std::uint32_t limit = 0) const;
  event_stream events(const std::string& model = {}) const;

 private:
  std::shared_ptr<link> link_;
};

}  // namespace troupe::client
