// Swaps under load on a CUDA device. Skipped where there is none.
#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <iostream>
#include <mutex>

#include "tests/live/live_server.hpp"
#include "tests/support/cuda_device.hpp"

namespace troupe::test {
namespace {

using clock = std::chrono::steady_clock;

constexpr int streams = 64;
constexpr int swaps = 100;
constexpr std::uint32_t length = 400;  // tokens of an answer

struct answer {
  std::vector<std::int32_t> ids;
  std::vector<float> margins;  // log-probability of the token above that of the next best
  std::vector<double> gaps;    // ms between two pieces
};

client::generate_request numbered(int number) {
  client::generate_request r;
  r.model = "fox";
  r.prompt = client::text_prompt{fmt::format("Once upon a time, in year {}, there was a fox", 1000 + number)};
  r.sampling = client::sampling_options{.temperature = 0};
  r.stop.max_tokens = length;
  r.stop.ignore_eos = true;
  r.logprobs = true;
  r.top_logprobs = 2;
  return r;
}

answer ask(const client::connection& server, int number) {
  answer out;
  auto stream = server.generate(numbered(number));
  auto last = clock::time_point();
  while (auto piece = stream.next(patience)) {
    const auto now = clock::now();
    if (last != clock::time_point())
      out.gaps.push_back(std::chrono::duration<double, std::milli>(now - last).count());
    last = now;
    for (const auto& t : piece->tokens) {
      out.ids.push_back(t.token);
      out.margins.push_back(t.top.at(0).logprob - t.top.at(1).logprob);
    }
  }
  return out;
}

std::string distribution(std::vector<double> all) {
  std::ranges::sort(all);
  const auto at = [&](double part) {
    return all[std::min(all.size() - 1, static_cast<std::size_t>(part * static_cast<double>(all.size())))];
  };
  return fmt::format("{} values, ms: median {:.2f}, 99 % {:.2f}, 99.9 % {:.2f}, largest {:.2f}", all.size(),
                     at(0.5), at(0.99), at(0.999), all.back());
}

std::size_t free_device_bytes() {
  std::size_t free = 0, total = 0;
  EXPECT_EQ(cudaMemGetInfo(&free, &total), cudaSuccess);
  return free;
}

class CudaLive : public Live {
 protected:
  CudaLive()
      : Live([](server_options& o) {
          o.config.device.backend = no_cuda_device().empty() ? "cuda" : "cpu";
          o.config.cache.memory = {std::uint64_t{1} << 30};
          o.config.scheduler.max_sequences = streams;
        }) {}
  void SetUp() override {
    if (!no_cuda_device().empty()) GTEST_SKIP() << no_cuda_device();
  }

  // One answer of each stream, side by side.
  std::vector<answer> ask_all() {
    std::vector<answer> all(streams);
    std::vector<std::thread> threads;
    for (int i = 0; i < streams; ++i)
      threads.emplace_back([&, i] { all[static_cast<std::size_t>(i)] = ask(running.connect(), i); });
    for (auto& t : threads) t.join();
    return all;
  }
};

// The same tokens, but where two are nearly as likely: who computes beside it decides on the last digits of a step.
struct comparison {
  std::size_t answers = 0, parted = 0;
  float widest = 0;  // margin at which an answer parted

  void add(const answer& expected, const answer& found) {
    ++answers;
    ASSERT_EQ(found.ids.size(), expected.ids.size()) << "a token is missing, or came twice";
    const auto at = std::ranges::mismatch(expected.ids, found.ids).in1 - expected.ids.begin();
    if (static_cast<std::size_t>(at) == expected.ids.size()) return;
    ++parted;
    widest = std::max(widest, expected.margins[static_cast<std::size_t>(at)]);
  }
};

TEST_F(CudaLive, SwapsAHundredTimesUnderSixtyFourStreams) {
  const auto expected = ask_all();
  std::vector<double> quiet;
  comparison usual;
  for (const auto& again : ask_all()) {
    usual.add(expected[usual.answers], again);
    quiet.insert(quiet.end(), again.gaps.begin(), again.gaps.end());
  }

  std::atomic<bool> stop{false};
  std::mutex guard;
  comparison seen;
  std::vector<double> gaps;
  std::vector<std::string> problems;
  std::vector<std::thread> threads;
  for (int i = 0; i < streams; ++i)
    threads.emplace_back([&, i] {
      try {
        const auto server_of_mine = running.connect();
        while (!stop) {
          const auto found = ask(server_of_mine, i);
          const std::lock_guard lock(guard);
          seen.add(expected[static_cast<std::size_t>(i)], found);
          gaps.insert(gaps.end(), found.gaps.begin(), found.gaps.end());
        }
      } catch (const std::exception& e) {
        const std::lock_guard lock(guard);
        problems.emplace_back(e.what());
      }
    });
  client::swap_options how;
  how.verify = client::verify::max_logit_diff;
  how.max_logit_diff = 0.5F;
  how.move = client::move::carry;
  how.probation = 20ms;
  const std::vector<std::string> versions = {version("reordered"),
                                             TROUPE_BINARY_DIR "/lib/troupe/modules/mixtral.so"};
  std::vector<double> pauses, usual_pauses;
  std::uint64_t continued = 0;
  std::size_t free_early = 0;
  for (int i = 0; i < swaps && problems.empty(); ++i) {
    const auto done = server.swap("fox", versions[static_cast<std::size_t>(i) % 2], how);
    pauses.push_back(done.pause_ms);
    usual_pauses.push_back(done.usual_pause_ms);
    continued += done.sequences_continued;
    if (i == 3) free_early = free_device_bytes();
  }
  stop = true;
  for (auto& t : threads) t.join();
  const auto free_late = free_device_bytes();
  std::cout << fmt::format(
      "{} swaps, {} sequences carried, {} answers\n  gaps, undisturbed: {}\n  gaps, swapped:     {}\n"
      "  pauses of the switches: {}\n  usual then:             {}\n"
      "  answers that part: {} of {} undisturbed, {} of {} swapped (margin at most {:.3f})\n"
      "  device memory: {} bytes less free than behind the fourth swap\n",
      pauses.size(), continued, seen.answers, distribution(quiet), distribution(gaps), distribution(pauses),
      distribution(usual_pauses), usual.parted, usual.answers, seen.parted, seen.answers, seen.widest,
      static_cast<std::int64_t>(free_early) - static_cast<std::int64_t>(free_late));
  ASSERT_TRUE(problems.empty()) << problems.front();
  EXPECT_EQ(pauses.size(), static_cast<std::size_t>(swaps));
  EXPECT_GT(continued, static_cast<std::uint64_t>(swaps) * streams / 2) << "the streams were not there";
  EXPECT_LT(seen.widest, 0.35F);
  EXPECT_LE(seen.parted, seen.answers / 5);
  EXPECT_EQ(free_early, free_late);
  std::ranges::sort(usual_pauses);
  EXPECT_LE(*std::ranges::max_element(pauses), 2 * usual_pauses[usual_pauses.size() / 2]);
}

}  // namespace
}  // namespace troupe::test
