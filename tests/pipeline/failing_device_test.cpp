// A device that fails in the middle of an answer ends the executor; the next one loads the weights again and computes from its tokens what
// was lost. The answer goes on. On each backend that this machine has.
#include <gtest/gtest.h>

#include <cstdlib>

#include "ops/device/open_backend.hpp"
#include "tests/support/server_process.hpp"
#include "troupe/client.hpp"

namespace troupe::test {
namespace {

class FailingDevice : public testing::TestWithParam<std::tuple<const char*, const char*>> {};

TEST_P(FailingDevice, AnswersGoOnFromTheirTokens) {
  const auto [device, model] = GetParam();
  const std::string library = std::string(TROUPE_BINARY_DIR "/lib/libtroupe-") + device + ".so";
  if (const auto opened = ops::open_backend(library, {1, false, 1, 1 << 16}); !opened)
    GTEST_SKIP() << opened.error().text;
  ::setenv("TROUPE_STUMBLING_ON", library.c_str(), 1);
  ::setenv("TROUPE_STUMBLING_STEP", "20", 1);
  const server_process server(
      {"--model", std::string(TROUPE_SOURCE_DIR "/demo/") + model, "--set", "device.backend=stumbling"});
  const auto connection = client::connect(server.endpoint());
  client::generate_request request;
  request.prompt = client::text_prompt{"Once upon a time there was a little girl who"};
  request.sampling = client::sampling_options{.temperature = 0};
  request.stop.max_tokens = 60;
  request.stop.ignore_eos = true;
  const auto ask = [&] {
    auto stream = connection.generate(request);
    std::string text;
    while (auto piece = stream.next(std::chrono::minutes(1))) text += piece->text;
    EXPECT_EQ(stream.final().choices.at(0).generated_tokens, 60u);
    return text;
  };
  const std::string interrupted = ask();
  const auto status = connection.status();
  std::uint32_t restarts = 0;
  for (const auto& entry : status.restarts)
    if (entry.actor == "executor") restarts = entry.restarts;
  EXPECT_EQ(restarts, 1u);
  const std::string whole = ask();
  // What was lost is computed as a prompt, on a GPU by other kernels: behind a near-tie the text may be another one.
  EXPECT_EQ(interrupted.substr(0, 40), whole.substr(0, 40));
  if (std::string(device) == "cpu") {
    EXPECT_EQ(interrupted, whole);
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, FailingDevice,
                         testing::Combine(testing::Values("cpu", "cuda"),
                                          testing::Values("mixtral-demo", "jamba-demo")));

}  // namespace
}  // namespace troupe::test
