// A server in this process, with the demo model unless a test says otherwise, and clients of it.
#pragma once

#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

#include "actors/server/server.hpp"
#include "kernel/telemetry/log.hpp"
#include "tests/support/temp_folder.hpp"
#include "troupe/client.hpp"

namespace troupe::test {

inline constexpr const char* demo_model = TROUPE_SOURCE_DIR "/demo/mixtral-demo";
inline constexpr const char* recurrent_demo_model =
    TROUPE_SOURCE_DIR "/demo/jamba-demo";  // with state per sequence

// What is told to a client before a test that fails would hang.
inline constexpr std::chrono::milliseconds patience = std::chrono::minutes(1);

// On a free port, modules copied to `scratch`, logs only of errors.
inline server_options demo_options(const temp_folder& scratch) {
  server_options options;
  options.paths = config::install_at(TROUPE_BINARY_DIR);
  options.config.server.listen = {"tcp://127.0.0.1:*"};
  options.config.models = {{.path = demo_model}};
  options.config.device.backend = "cpu";  // texts are compared word for word, also where there is a GPU
  options.config.cache.memory = {std::uint64_t{64} << 20};
  options.config.modules.store = scratch.path() / "modules";
  return options;
}

class demo_server {
 public:
  demo_server() : demo_server([](server_options&) {}) {}
  template <class Change>
  explicit demo_server(Change change) {
    (void)log::configure({.least = log::level::off});
    auto options = demo_options(scratch_);
    change(options);
    auto started = server::start(std::move(options));
    if (!started) throw std::runtime_error(started.error().text);
    running_ = std::move(*started);
  }

  server& operator*() { return *running_; }
  server* operator->() { return running_.get(); }
  void destroy() { running_.reset(); }
  client::connection connect() const { return client::connect(running_->endpoints().front()); }

 private:
  temp_folder scratch_;
  std::unique_ptr<server> running_;
};

// The whole text of a stream from where it stands. Throws what the stream throws.
inline std::string read_all(client::stream& stream) {
  std::string text;
  while (auto piece = stream.next(patience)) text += piece->text;
  return text;
}

// `tokens` greedy tokens behind a fixed text, whatever they are.
inline client::generate_request long_request(std::uint32_t tokens) {
  client::generate_request request;
  request.prompt = client::text_prompt{"Once upon a time there was a little girl who"};
  request.sampling = client::sampling_options{.temperature = 0};
  request.stop.max_tokens = tokens;
  request.stop.ignore_eos = true;
  return request;
}

inline client::generate_request chat_request(const std::string& question) {
  client::generate_request request;
  request.prompt = client::chat_prompt{{{"user", question}}};
  request.sampling = client::sampling_options{.temperature = 0};
  return request;
}

}  // namespace troupe::test
