// The configuration of a server: plain structs with their defaults, read from TOML.
//
// Reading is strict: an unknown or mistyped key, a value of the wrong type or outside its range is an error
// (bad_config) that names file, line, key, what was expected and the nearest known key. default.toml beside
// this file explains every key; a test keeps it, the structs and the parser in step.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kernel/base/result.hpp"

namespace troupe::config {

struct byte_count {
  std::uint64_t bytes = 0;
  friend bool operator==(const byte_count&, const byte_count&) = default;
};

struct server_section {
  std::vector<std::string> listen = {"tcp://127.0.0.1:7410"};
  std::chrono::milliseconds drain = std::chrono::seconds(30);
  std::filesystem::path state;  // folder of the journal of live changes; empty = they are not kept
  bool operator==(const server_section&) const = default;
};

struct log_section {
  std::string level = "info";   // debug, info, warning, error, off
  std::string format = "text";  // text, json
  std::filesystem::path file;   // empty = stderr
  bool colour = true;
  bool operator==(const log_section&) const = default;
};

struct device_section {
  std::string backend = "auto";  // libtroupe-<backend>.so; auto = cuda where it can be opened, else cpu
  std::string weights = "bf16";  // bf16, int8: how a GPU keeps the matrices
  std::uint32_t threads = 0;     // 0 = all cores
  bool operator==(const device_section&) const = default;
};

struct cache_section {
  byte_count memory{std::uint64_t{256} << 20};
  std::optional<byte_count> block;  // "auto" = none: see block_for
  bool prefix_cache = true;

  // Bytes of a block where one token's keys and values take at most `token_bytes` (0 = there are none): what the
  // operator wrote, else the smallest power of two from 64 KiB on that holds 16 tokens, but never more than `memory`.
  std::uint64_t block_for(std::uint64_t token_bytes) const;
  bool operator==(const cache_section&) const = default;
};

struct scheduler_section {
  std::uint32_t max_sequences = 64;  // in one step
  std::uint32_t step_tokens = 512;   // in one step, prefill and decode together
  std::uint32_t queue_limit = 1024;  // sequences that wait
  bool operator==(const scheduler_section&) const = default;
};

struct tokenizer_section {
  std::uint32_t workers = 1;  // per model
  bool operator==(const tokenizer_section&) const = default;
};

struct limits_section {
  std::uint32_t open_requests_per_client = 128;
  byte_count request{std::uint64_t{8} << 20};
  std::uint32_t outbox_messages = 4096;  // replies that a slow client may leave unread
  bool operator==(const limits_section&) const = default;
};

struct modules_section {
  std::vector<std::filesystem::path> folders;  // empty = those of the installation
  std::filesystem::path store;                 // empty = the user's cache folder
  std::filesystem::path trusted;               // empty = trusted_modules in the user's config folder
  bool operator==(const modules_section&) const = default;
};

struct model_section {
  std::string name;               // empty = the folder's name
  std::filesystem::path path;     // required
  std::uint32_t max_context = 0;  // 0 = the model's own
  bool operator==(const model_section&) const = default;
};

struct configuration {
  server_section server;
  log_section log;
  device_section device;
  cache_section cache;
  scheduler_section scheduler;
  tokenizer_section tokenizer;
  limits_section limits;
  modules_section modules;
  std::vector<model_section> models;
  bool operator==(const configuration&) const = default;
};

// `name` stands for the text in errors; relative paths are relative to `folder`.
result<configuration> parse(std::string_view text, std::string_view name,
                            const std::filesystem::path& folder);

// Relative paths in the file are relative to the file. Errors: not_found, bad_config.
result<configuration> load(const std::filesystem::path& file);

// Sets one key from "section.key=value", value as in TOML (quotes of a plain string may be left out). Lists
// of models cannot be set this way. Relative paths are relative to the working directory.
result<void> assign(configuration& into, std::string_view assignment);

// Under which clients ask for it: its name, else that of its folder, however the path is spelt ("a/b/", "a/b/.").
std::string name_of(const model_section& model);

// What no single key can tell: a block larger than the pool, two models of one name; and, for structs that no parser filled,
// an endpoint that is none.
result<void> check(const configuration& wanted);

// All keys that are known: "server.listen", ..., "model.name", ... in the order of default.toml.
std::vector<std::string> known_keys();

// "256MiB", "64KiB", "1GiB", "4096B"; whole numbers with a unit, 1024-based. Empty = none of these.
std::optional<byte_count> parse_size(std::string_view text);
// "500ms", "30s", "5min", "1h".
std::optional<std::chrono::milliseconds> parse_duration(std::string_view text);
// tcp://address:port (port 0 or * = any free one) or ipc://path.
bool is_endpoint(std::string_view text);
// Only processes of this machine reach it: ipc, or tcp on a loopback address.
bool is_local_endpoint(std::string_view endpoint);

}  // namespace troupe::config
