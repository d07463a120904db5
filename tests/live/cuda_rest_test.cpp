// Models that sleep and wake on a CUDA device. Skipped where there is none.
#include <cuda_runtime_api.h>

#include <iostream>

#include "tests/live/live_server.hpp"
#include "tests/support/cuda_device.hpp"

namespace troupe::test {
namespace {

using testing::HasSubstr;

// What the driver may take for pages of the host that it has been shown.
constexpr std::uint64_t driver_slack = std::uint64_t{4} << 20;

std::uint64_t free_device_bytes() {
  std::size_t free = 0, total = 0;
  EXPECT_EQ(cudaMemGetInfo(&free, &total), cudaSuccess);
  return free;
}

class CudaRest : public Live {
 protected:
  CudaRest()
      : Live([](server_options& o) {
          o.config.device.backend = no_cuda_device().empty() ? "cuda" : "cpu";
          o.config.cache.memory = {std::uint64_t{1} << 30};
          o.config.scheduler.max_sequences = 8;
        }) {}
  void SetUp() override {
    if (!no_cuda_device().empty()) GTEST_SKIP() << no_cuda_device();
  }
  // One after the other: in company the last digits of a step may differ.
  std::vector<std::vector<std::int32_t>> one_by_one() {
    std::vector<std::vector<std::int32_t>> all;
    for (int i = 0; i < stream_count; ++i) all.push_back(reader(connection, request(i, 100)).ids());
    return all;
  }
};

TEST_F(CudaRest, GivesTheDevicesMemoryBackAndTheSameTokensWhenItWakes) {
  const auto expected = one_by_one();
  const auto weights = fox().weight_bytes;
  for (int round = 0; round < 3; ++round) {
    const auto before = free_device_bytes();
    const auto asleep = server.sleep("fox");
    const auto freed = free_device_bytes() - before;
    std::cout << joined(asleep.report);
    EXPECT_THAT(joined(asleep.report), HasSubstr("weights in host memory: "));
    EXPECT_GE(asleep.bytes_freed, weights);
    EXPECT_GE(freed + driver_slack, asleep.bytes_freed) << "told, and measured";
    EXPECT_EQ(fox().state, "asleep");
    const auto awake = server.wake("fox");
    std::cout << joined(awake.report);
    EXPECT_THAT(joined(awake.report), HasSubstr("woken from host memory: "));
    EXPECT_EQ(one_by_one(), expected);
    EXPECT_GE(free_device_bytes() + driver_slack, before) << "as much as before it slept";
  }
}

TEST_F(CudaRest, SleepsOnWhileOthersHaveTheDevicesMemory) {
  const auto expected = one_by_one();
  server.sleep("fox");
  void* others = nullptr;
  ASSERT_EQ(cudaMalloc(&others, free_device_bytes() - (std::uint64_t{200} << 20)), cudaSuccess);
  const auto refused = refusal([&] { server.wake("fox"); });
  EXPECT_EQ(refused.code(), error_code::no_room) << refused.what();
  EXPECT_THAT(refused.what(), HasSubstr("free on the device"));
  EXPECT_EQ(fox().state, "asleep");
  ASSERT_EQ(cudaFree(others), cudaSuccess);
  EXPECT_THAT(joined(server.wake("fox").report), HasSubstr("woken from host memory"));
  EXPECT_EQ(one_by_one(), expected);
}

TEST_F(CudaRest, LetsOthersUseTheMemoryAndGoOnWhileItSleepsAndWakes) {
  const auto expected = one_by_one();
  server.sleep("fox");
  server.load(demo_model, "owl");
  auto undisturbed = request(0, 2000);
  undisturbed.model = "owl";
  const auto alone = reader(connection, undisturbed).ids();
  reader beside(connection, undisturbed);
  beside.wait_for(1);
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(server.wake("fox").info.state, "done");
    EXPECT_EQ(server.sleep("fox").info.state, "done");
  }
  EXPECT_EQ(beside.ids(), alone) << beside.problem();
  server.unload("owl");
  server.wake("fox");
  EXPECT_EQ(one_by_one(), expected);
}

TEST_F(CudaRest, GivesItsCopyBackWhenItIsUnloadedAsleep) {
  server.sleep("fox");
  const auto gone = server.unload("fox");
  EXPECT_THAT(joined(gone.report), HasSubstr("its copy in host memory is gone"));
  server.load(demo_model, "fox");
  EXPECT_EQ(one_by_one().size(), static_cast<std::size_t>(stream_count));
}

}  // namespace
}  // namespace troupe::test
