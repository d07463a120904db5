// The C++ client of a Troupe server.
//
//   auto server = troupe::client::connect("tcp://127.0.0.1:7410");
//   auto answer = server.generate({.prompt = troupe::client::text_prompt{"The capital of France is"}});
//   while (auto piece = answer.next()) std::cout << piece->text << std::flush;
//   std::cout << '\n' << answer.final().usage.generated_tokens << " tokens\n";
//
// THREADS  A connection may be used from any number of threads at once; copies share it. A stream is read by one thread at
//          a time; its cancel() may be called from any other. Each connection has one thread of its own, which never calls
//          your code: callbacks run on the thread that asked.
// ERRORS   Everything that fails throws `failure`: a code of the protocol and a text for people.
// LIFETIME A stream that is destroyed before its end is cancelled at the server. Streams keep their connection alive.
// MEMORY   What arrives for a stream waits, without a limit, until it is read.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "troupe/schemas/common_generated.h"

namespace troupe::client {

using milliseconds = std::chrono::milliseconds;
using error_code = wire::ErrorCode;
using finish_reason = wire::FinishReason;

inline constexpr milliseconds forever = milliseconds::max();

// The server's typed error, or one of the client itself: unavailable (no server there, connection lost),
// deadline_exceeded (no answer within a call's timeout), bad_config (not an endpoint), invalid_frame (not a
// Troupe server).
class failure : public std::runtime_error {
 public:
  failure(error_code code, const std::string& text) : std::runtime_error(text), code_(code) {}
  error_code code() const { return code_; }

 private:
  error_code code_;
};

// ---- what is asked; the fields are those of schemas/client.fbs and common.fbs ---------------------------

struct chat_message {
  std::string role;
  std::string content;
};
struct text_prompt {
  std::string text;
  bool add_special_tokens = true;
};
struct chat_prompt {
  std::vector<chat_message> messages;
  bool add_generation_prompt = true;
};
struct token_prompt {
  std::vector<std::int32_t> ids;
};
using prompt_variant = std::variant<text_prompt, chat_prompt, token_prompt>;

struct sampling_options {
  float temperature = 1;  // 0 = greedy
  std::uint32_t top_k = 0;
  float top_p = 1;
  float min_p = 0;
  float repetition_penalty = 1;
  float presence_penalty = 0;
  float frequency_penalty = 0;
  std::map<std::int32_t, float> logit_bias;
  std::optional<std::uint64_t> seed;
};

struct stop_conditions {
  std::uint32_t max_tokens = 0;  // 0 = as many as the context allows
  std::uint32_t min_tokens = 0;
  std::vector<std::int32_t> token_ids;
  std::vector<std::string> strings;
  bool ignore_eos = false;
  bool include_stop_string = false;
};

struct generate_request {
  std::string model = {};  // empty = the server's default model
  prompt_variant prompt = {};
  std::optional<sampling_options> sampling = {};  // absent = as the checkpoint recommends
  stop_conditions stop = {};
  std::uint32_t n = 1;
  bool stream = true;
  bool logprobs = false;
  std::uint32_t top_logprobs = 0;
  std::int32_t prompt_logprobs = -1;  // -1 = none
  bool echo = false;
  bool skip_special_tokens = true;
  milliseconds deadline{0};  // kept by the server, from receipt; 0 = none
};

// ---- what is answered -----------------------------------------------------------------------------------

struct token_alternative {
  std::int32_t token = 0;
  float logprob = 0;
};
struct token_logprob {
  std::int32_t token = 0;
  float logprob = 0;                   // NaN for the first token of a prompt
  std::string bytes;                   // may be part of a code point
  std::vector<token_alternative> top;  // most likely first
};

struct chunk {
  std::uint32_t choice = 0;
  std::string text;
  std::vector<token_logprob> tokens;  // only if logprobs were asked for
  std::vector<token_logprob> prompt;  // once, if prompt_logprobs were asked for
};

struct choice_end {
  std::uint32_t choice = 0;
  finish_reason finish = finish_reason::none;
  std::int32_t stop_token = -1;  // -1 = none
  std::string stop_string;       // empty = none
  std::uint32_t generated_tokens = 0;
  std::uint64_t seed = 0;  // reproduces the choice
};
struct usage_report {
  std::uint32_t prompt_tokens = 0;
  std::uint32_t cached_tokens = 0;
  std::uint32_t generated_tokens = 0;
  double queue_ms = 0;
  double first_token_ms = 0;
  double total_ms = 0;
};
struct final_message {
  std::vector<choice_end> choices;
  usage_report usage;
};

struct token_ids {
  std::vector<std::int32_t> ids;
  std::string text;  // the rendered chat prompt, if a chat was given
};

struct model_info {
  std::string name, architecture, module, module_sha256;
  std::uint32_t context_tokens = 0;
  std::uint32_t vocabulary = 0;
  std::uint64_t parameters = 0;
  std::string state;  // loading, ready, recovering, closing, draining, drained, asleep
  std::uint32_t waiting = 0;
  std::uint32_t running = 0;
  std::uint64_t generated_tokens = 0;
  std::uint64_t steps = 0;       // since start
  std::uint64_t generation = 0;  // counts the committed changes of what is served under the name
  std::string checkpoint;        // folder
  double tokens_per_second = 0;  // generated, of the last second or so
  std::uint64_t weight_bytes = 0;
  std::uint32_t share_percent = 100;  // of new requests for the name
  bool pinned = false;
};
struct cache_info {
  std::uint32_t blocks = 0;
  std::uint32_t free_blocks = 0;
  std::uint32_t cached_blocks = 0;
  std::uint64_t block_bytes = 0;
};
struct restart_info {
  std::string actor;
  std::uint32_t restarts = 0;
  std::string last_reason;
};
// Where an operation stands, or how it ended.
struct operation_info {
  std::uint64_t operation = 0;
  std::string model;
  std::string verb;   // load, unload, swap, deploy, rollback, sleep, wake, pin, unpin, drain
  std::string state;  // queued, staging, ...; at its end done, refused or undone
  bool dry_run = false;
  std::uint64_t begun_ms = 0;  // since 1970-01-01 UTC
  double took_ms = 0;
  std::uint64_t old_generation = 0;  // 0 = the name was not served
  std::uint64_t new_generation = 0;
  std::string reason;
};

struct server_status {
  std::string version;
  std::uint64_t uptime_ms = 0;
  std::uint32_t clients = 0;
  std::uint32_t open_requests = 0;
  std::uint64_t bad_frames = 0;
  cache_info cache;
  std::vector<model_info> models;
  std::vector<restart_info> restarts;
  std::vector<operation_info> operations;  // under way
};

// ---- how --------------------------------------------------------------------------------------------------

class link;  // the socket and its thread

// One generation. Read it with next() until that answers nothing, then ask final().
class stream {
 public:
  stream(stream&&) noexcept;
  stream& operator=(stream&&) noexcept;
  ~stream();

  // The next piece; nothing when the stream has ended well. Throws the error in which it ended, whenever
  // asked, and deadline_exceeded if nothing came within `timeout`: then the stream is still open and may be
  // asked again.
  std::optional<chunk> next(milliseconds timeout = forever);

  // What stood at the end. Only after next() answered nothing.
  const final_message& final() const;

  // Asks the server to end it; next() goes on until the end, whose choices say `cancelled`. Any thread; may
  // be repeated.
  void cancel();

  std::uint64_t id() const;  // of the request on this connection

 private:
  friend class connection;
  struct state;
  explicit stream(std::unique_ptr<state> s);
  std::unique_ptr<state> state_;
};

struct connect_options {
  milliseconds timeout{3000};             // until the server has said Welcome
  milliseconds call_timeout{30000};       // of tokenize, detokenize, models, status
  std::string name = "troupe-cpp/0.1.0";  // for the server's log
};

class connection {
 public:
  // Does not wait for the server. Throws what its next() would throw if the connection is down.
  stream generate(const generate_request& request) const;

  // Reads the whole stream, calling `on_chunk` for each piece on this thread. An `on_chunk` that answers
  // false cancels.
  final_message generate(const generate_request& request,
                         const std::function<bool(const chunk&)>& on_chunk) const;

  token_ids tokenize(std::string_view text, bool add_special_tokens = true,
                     std::string_view model = {}) const;
  token_ids tokenize(const chat_prompt& chat, std::string_view model = {}) const;
  std::string detokenize(const std::vector<std::int32_t>& ids, bool skip_special_tokens = false,
                         std::string_view model = {}) const;
  std::vector<model_info> models() const;
  server_status status() const;

  const std::string& endpoint() const;
  const std::string& server() const;  // name and version, as it said Welcome
  std::uint16_t protocol_version() const;

 private:
  friend connection connect(const std::string& endpoint, const connect_options& options);
  friend class operations;  // operations.hpp
  explicit connection(std::shared_ptr<link> l) : link_(std::move(l)) {}
  std::shared_ptr<link> link_;
};

// endpoint: tcp://host:port or ipc:///path. Connects and agrees on the protocol version. After a loss the
// connection heals by itself; what was open then has failed.
connection connect(const std::string& endpoint, const connect_options& options = {});

}  // namespace troupe::client
