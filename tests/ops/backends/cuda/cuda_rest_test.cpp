// A model that sleeps and wakes on the device: its memory, its addresses, its graphs.
#include <gmock/gmock.h>

#include <atomic>
#include <thread>

#include "ops/backends/cuda/cuda_backend.hpp"
#include "ops/backends/cuda/cuda_model.hpp"
#include "ops/backends/cuda/host_copy.hpp"
#include "tests/ops/backends/cuda/on_device.hpp"
#include "tests/ops/support/tiny_model.hpp"
#include "tests/support/every_op.hpp"

namespace troupe::ops {
namespace {

using ::testing::HasSubstr;
using tiny = test::tiny_program;

// What the driver may take for pages of the host that it has been shown.
constexpr std::uint64_t driver_slack = std::uint64_t{4} << 20;

std::uint64_t free_now() {
  const auto free = cuda::free_bytes();
  EXPECT_TRUE(free);
  return free.value_or(0);
}

class CudaRest : public ::testing::Test {
 protected:
  void SetUp() override { TROUPE_SKIP_WITHOUT_DEVICE(); }

  std::unique_ptr<model> load(const program::ProgramT& source) {
    const auto program = program::verify(tiny::bytes(source));
    EXPECT_TRUE(program) << program.error().text;
    if (!backend_) backend_ = *cuda::open({1, false, 256, 8192});
    auto made = backend_->load(*program, checkpoint::weights::synthetic(3), {.state_slots = 4});
    EXPECT_TRUE(made) << (made ? "" : made.error().text);
    return std::move(*made);
  }
  // Logits of a prompt, and of the steps behind it: from the third of them on graphs.
  static std::vector<float> run(model& m) {
    tiny_sequences sequence(m);
    auto all = sequence.step({{0, {1, 2, 3, 4, 5}}});
    for (std::int32_t i = 0; i < 6; ++i) {
      const auto more = sequence.step({{0, {i}}});
      all.insert(all.end(), more.begin(), more.end());
    }
    return all;
  }

  std::unique_ptr<backend> backend_;
};

TEST_F(CudaRest, KeepsGraphsAndResultsAndGivesTheMemoryBack) {
  for (const auto& source : {tiny::make(), test::every_op::make()}) {
    const auto made = load(source);
    const auto& inside = static_cast<const cuda::cuda_model&>(*made);
    const auto expected = run(*made);
    const auto graphs = inside.graphs();
    EXPECT_GT(graphs, 0u);
    for (int round = 0; round < 3; ++round) {
      const auto before = free_now();
      const auto asleep = made->sleep();
      ASSERT_TRUE(asleep) << asleep.error().text;
      EXPECT_EQ(asleep->host_bytes, made->weight_bytes());
      EXPECT_GE(free_now() - before + driver_slack, asleep->device_bytes);
      EXPECT_FALSE(made->sleep());
      const std::vector<std::int32_t> token{1}, position{0};
      const std::vector<std::uint32_t> starts{0, 1}, table{0}, rows{0}, slots{0};
      const std::vector<std::span<const std::uint32_t>> tables{table};
      const auto refused = made->run({token, position, starts, tables, rows, slots});
      ASSERT_FALSE(refused);
      EXPECT_THAT(refused.error().text, HasSubstr("sleeps"));
      const auto awake = made->wake();
      ASSERT_TRUE(awake) << awake.error().text;
      EXPECT_EQ(awake->device_bytes, asleep->device_bytes);
      EXPECT_GE(free_now() + driver_slack, before);
      EXPECT_EQ(inside.graphs(), graphs);
      EXPECT_EQ(run(*made), expected);
      EXPECT_EQ(inside.graphs(), graphs);
      EXPECT_FALSE(made->wake());
    }
  }
}

TEST_F(CudaRest, SleepsOnWithoutRoomAndMayBeDestroyedAsleep) {
  auto made = load(tiny::make());
  const auto expected = run(*made);
  ASSERT_TRUE(made->sleep());
  {
    const auto others = cuda::device_memory::take(free_now() - (std::uint64_t{100} << 20), "others");
    ASSERT_TRUE(others) << others.error().text;
    const auto refused = made->wake();
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, error_code::no_room);
    EXPECT_THAT(refused.error().text, HasSubstr("free on the device"));
  }
  ASSERT_TRUE(made->wake());
  EXPECT_EQ(run(*made), expected);
  ASSERT_TRUE(made->sleep());
  made.reset();
}

// As the executor's two threads do it: graphs are captured while another model sleeps, wakes and is loaded.
TEST_F(CudaRest, LeavesTheStepsOfOthersAlone) {
  const auto sleeper = load(tiny::make());
  const auto expected = run(*sleeper);
  const auto worker = load(tiny::make());
  auto& inside = static_cast<cuda::cuda_model&>(*worker);
  std::atomic<bool> over{false};
  std::thread steps([&] {
    while (!over) {
      EXPECT_EQ(run(*worker), expected);
      inside.drop_graphs();
    }
  });
  for (int i = 0; i < 20; ++i) {
    EXPECT_TRUE(sleeper->sleep());
    EXPECT_TRUE(sleeper->wake());
    load(tiny::make()).reset();
  }
  over = true;
  steps.join();
  EXPECT_EQ(run(*sleeper), expected);
}

TEST_F(CudaRest, CopiesWhatDoesNotEndWithAPiece) {
  for (const std::uint64_t bytes :
       {std::uint64_t{256}, (std::uint64_t{32} << 20) - 256, std::uint64_t{77'000'192}}) {
    std::vector<std::uint8_t> numbers(bytes);
    for (std::size_t i = 0; i < bytes; ++i) numbers[i] = static_cast<std::uint8_t>(i * 7 + i / 251);
    on_device<std::uint8_t> here(numbers);
    const auto copy = cuda::host_copy::take(reinterpret_cast<const char*>(here.data()), bytes);
    ASSERT_TRUE(copy) << copy.error().text;
    ASSERT_EQ(cudaMemset(here.data(), 0, bytes), cudaSuccess);
    ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    ASSERT_TRUE((*copy)->bring_back(reinterpret_cast<char*>(here.data())));
    EXPECT_EQ(here.read(), numbers);
    EXPECT_LE((*copy)->registered_bytes(), bytes);
  }
}

}  // namespace
}  // namespace troupe::ops
