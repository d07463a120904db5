// A server that trusts the modules of these tests, an operator, and streams that are read beside what the operator does.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "kernel/modules/stage.hpp"
#include "tests/support/demo_server.hpp"
#include "troupe/operations.hpp"

namespace troupe::test {

using namespace std::chrono_literals;

inline std::string version(const std::string& name) {
  return std::string(LIVE_MODULES "/") + name + ".so";
}

// Their native ops run in this process.
inline std::string trust_file(const std::filesystem::path& folder) {
  const auto file = folder / "trusted";
  std::ofstream out(file);
  for (const char* name : {"with_native_op", "not_finite_later", "slow_later"}) {
    const auto bytes = modules::read_library(version(name));
    if (bytes) out << "sha256 " << modules::sha256_hex(*bytes) << " for tests\n";
  }
  out.close();
  std::filesystem::permissions(file,
                               std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
  return file.string();
}

// Reads one stream on a thread of its own, with the ids of its tokens.
class reader {
 public:
  reader(const client::connection& server, client::generate_request request) {
    request.logprobs = true;
    stream_.emplace(server.generate(request));
    thread_ = std::thread([this] { run(); });
  }
  ~reader() {
    if (thread_.joinable()) {
      stream_->cancel();
      thread_.join();
    }
  }

  // So many tokens have come, or it is over.
  void wait_for(std::size_t tokens) const {
    for (int i = 0; i < 6000 && seen_ < tokens && !over_; ++i) std::this_thread::sleep_for(10ms);
    ASSERT_GE(seen_, tokens) << problem_;
  }
  // So many more tokens, then the end.
  const std::vector<std::int32_t>& stop_after(std::size_t more) {
    wait_for(seen_ + more);
    stream_->cancel();
    return ids();
  }
  // To its end.
  const std::vector<std::int32_t>& ids() {
    if (thread_.joinable()) thread_.join();
    return ids_;
  }
  const std::string& problem() {
    ids();
    return problem_;
  }
  std::size_t seen() const { return seen_; }

 private:
  void run() {
    try {
      while (auto piece = stream_->next(patience)) {
        for (const auto& t : piece->tokens) ids_.push_back(t.token);
        seen_ = ids_.size();
      }
    } catch (const std::exception& e) {
      problem_ = e.what();
    }
    over_ = true;
  }

  std::optional<client::stream> stream_;
  std::vector<std::int32_t> ids_;
  std::string problem_;
  std::atomic<std::size_t> seen_{0};
  std::atomic<bool> over_{false};
  std::thread thread_;
};

class Live : public testing::Test {
 protected:
  Live() : Live([](server_options&) {}) {}
  template <class Change>
  explicit Live(Change change)
      : running([&](server_options& o) {
          o.config.models = {{.name = "fox", .path = demo_model}};
          o.config.server.state = scratch.path() / "state";
          o.config.modules.trusted = trust_file(scratch.path());
          change(o);
        }),
        connection(running.connect()),
        server(running.connect()) {}

  // Prompts of different lengths; the third draws.
  static client::generate_request request(int number, std::uint32_t tokens) {
    auto r = long_request(tokens);
    std::string text = "Once upon a time there was a fox";
    for (int i = 0; i < number; ++i) text += " and another one, who said to the others";
    r.prompt = client::text_prompt{text};
    if (number == 2) {
      r.sampling = client::sampling_options{};
      r.sampling->temperature = 1;
      r.sampling->seed = 7;
    }
    r.model = "fox";
    return r;
  }
  static constexpr int stream_count = 3;

  // What each of them generates, side by side.
  std::vector<std::vector<std::int32_t>> run(const std::vector<std::uint32_t>& tokens) {
    std::vector<std::unique_ptr<reader>> all;
    for (int i = 0; i < stream_count; ++i)
      all.push_back(std::make_unique<reader>(connection, request(i, tokens[static_cast<std::size_t>(i)])));
    std::vector<std::vector<std::int32_t>> ids;
    for (auto& r : all) ids.push_back(r->ids());
    return ids;
  }
  std::vector<std::vector<std::int32_t>> run(std::uint32_t tokens) {
    return run(std::vector<std::uint32_t>(stream_count, tokens));
  }
  // Streams that do not end by themselves for a long time.
  std::vector<std::unique_ptr<reader>> start() {
    std::vector<std::unique_ptr<reader>> all;
    for (int i = 0; i < stream_count; ++i)
      all.push_back(std::make_unique<reader>(connection, request(i, 30'000)));
    for (auto& r : all) r->wait_for(5);
    return all;
  }
  // They go on, and have what the version that runs now gives from the beginning.
  void expect_undisturbed(std::vector<std::unique_ptr<reader>>& found) {
    std::vector<std::uint32_t> lengths;
    for (auto& r : found) lengths.push_back(static_cast<std::uint32_t>(r->stop_after(10).size()));
    const auto expected = run(lengths);
    for (std::size_t i = 0; i < found.size(); ++i) {
      EXPECT_EQ(found[i]->problem(), "") << "stream " << i;
      EXPECT_TRUE(found[i]->ids() == expected[i])
          << "stream " << i << " differs from token "
          << std::ranges::mismatch(found[i]->ids(), expected[i]).in1 - found[i]->ids().begin() << " of "
          << lengths[i];
    }
  }

  client::model_info fox() const {
    for (auto& m : connection.models())
      if (m.name == "fox" && m.state != "closing") return m;
    return {};
  }
  // An instance is gone with its last stream, a moment after that.
  std::size_t instances() const {
    for (int i = 0; i < 500 && connection.models().size() > 1; ++i) std::this_thread::sleep_for(10ms);
    return connection.models().size();
  }
  client::operation_info last() const { return server.history("fox").back(); }
  std::string state_of_last() const { return last().state; }
  void wait_for_state(const std::string& wanted) const {
    for (int i = 0; i < 3000; ++i) {
      const auto all = server.history("fox");
      if (!all.empty() && all.back().state == wanted) return;
      std::this_thread::sleep_for(10ms);
    }
    FAIL() << "the last operation stays " << state_of_last() << ": " << last().reason;
  }
  // What `what` is refused with.
  template <class What>
  static client::failure refusal(What what) {
    try {
      what();
    } catch (const client::failure& f) {
      return f;
    }
    return client::failure(error_code::none, "it was not refused");
  }

  temp_folder scratch;
  demo_server running;
  client::connection connection;
  client::operations server;
};

inline std::string joined(const std::vector<std::string>& report) {
  std::string text;
  for (const auto& line : report) text += line + '\n';
  return text;
}

}  // namespace troupe::test
