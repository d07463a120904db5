// A device that fails in the middle of an answer ends the executor; the next one loads the weights again and computes from its tokens what
// was lost. The answer goes on. On each backend that this machine has.
#include <gtest/gtest.h>

#include <cstdlib>

#include "ops/device/open_backend.hpp"
#include "tests/support/server_process.hpp"
#include "troupe/client.hpp"

namespace troupe::test {
namespace {

class FailingDevice : public testing::TestWithParam<std::tuple<const char*, const char*>> {
 protected:
  static constexpr std::uint32_t tokens = 60;
  struct answer {
    std::string text;
    std::uint32_t restarts = 0;  // of the executor
  };
  static answer ask(const std::string& backend) {
    const server_process server({"--model", std::string(TROUPE_SOURCE_DIR "/demo/") + std::get<1>(GetParam()),
                                 "--set", "device.backend=" + backend});
    const auto connection = client::connect(server.endpoint());
    client::generate_request request;
    request.prompt = client::text_prompt{"Once upon a time there was a little girl who"};
    request.sampling = client::sampling_options{.temperature = 0};
    request.stop.max_tokens = tokens;
    request.stop.ignore_eos = true;
    auto stream = connection.generate(request);
    answer out;
    while (auto piece = stream.next(std::chrono::minutes(1))) out.text += piece->text;
    EXPECT_EQ(stream.final().choices.at(0).generated_tokens, tokens);
    for (const auto& entry : connection.status().restarts)
      if (entry.actor == "executor") out.restarts = entry.restarts;
    return out;
  }
};

TEST_P(FailingDevice, AnswersGoOnFromTheirTokens) {
  const std::string device = std::get<0>(GetParam());
  const std::string library = TROUPE_BINARY_DIR "/lib/libtroupe-" + device + ".so";
  if (const auto opened = ops::open_backend(library, {1, false, 1, 1 << 16}); !opened)
    GTEST_SKIP() << opened.error().text;
  ::setenv("TROUPE_STUMBLING_ON", library.c_str(), 1);
  ::setenv("TROUPE_STUMBLING_STEP", "20", 1);
  const auto interrupted = ask("stumbling"), whole = ask(device);
  // The library is loaded anew with each executor, and fails again 20 steps later.
  EXPECT_GE(interrupted.restarts, 1u);
  EXPECT_EQ(whole.restarts, 0u);
  // What was lost is computed as a prompt, on a GPU by other kernels: behind a near-tie the text may be another one.
  if (device == "cpu")
    EXPECT_EQ(interrupted.text, whole.text);
  else
    EXPECT_EQ(interrupted.text.substr(0, 30), whole.text.substr(0, 30));
}

INSTANTIATE_TEST_SUITE_P(Devices, FailingDevice,
                         testing::Combine(testing::Values("cpu", "cuda"),
                                          testing::Values("mixtral-demo", "jamba-demo")));

}  // namespace
}  // namespace troupe::test
