// Experts on the device against the plain reference: few rows and many, each of the versions.
#include "ops/moe/experts_cuda.hpp"
#include "tests/ops/backends/cuda/on_device.hpp"

namespace troupe::ops {
namespace {

// E experts on the device and for the reference.
struct mixture {
  std::vector<std::unique_ptr<device_weight>> gate, up, down;
  std::unique_ptr<on_device<const void*>> pointers[3];
  std::unique_ptr<on_device<const float*>> scales[3];
  std::unique_ptr<on_device<std::int8_t>> stacks[3];
  std::size_t stride = 0;
  std::vector<weight_matrix> views[3];
  std::size_t hidden;
  bool int8;

  mixture(std::size_t experts, std::size_t width, std::size_t f, bool as_int8, bool stacked = false)
      : hidden(f), int8(as_int8) {
    for (unsigned e = 0; e < experts; ++e) {
      gate.push_back(std::make_unique<device_weight>(random_matrix(f, width, 10 * e), int8));
      up.push_back(std::make_unique<device_weight>(random_matrix(f, width, 10 * e + 1), int8));
      down.push_back(std::make_unique<device_weight>(random_matrix(width, f, 10 * e + 2), int8));
    }
    int i = 0;
    for (const auto* all : {&gate, &up, &down}) {
      std::vector<const void*> data;
      std::vector<const float*> factors;
      for (const auto& one : *all) {
        data.push_back(one->view().data);
        factors.push_back(one->view().scales);
        views[i].push_back(one->reference());
      }
      pointers[i] = std::make_unique<on_device<const void*>>(data);
      scales[i] = std::make_unique<on_device<const float*>>(factors);
      if (stacked) stack(i, data, width * f);
      ++i;
    }
  }
  void stack(int i, const std::vector<const void*>& planes, std::size_t numbers) {
    stride = (numbers + 255) / 256 * 256;
    stacks[i] = std::make_unique<on_device<std::int8_t>>(planes.size() * stride);
    for (std::size_t e = 0; e < planes.size(); ++e)
      EXPECT_EQ(cudaMemcpy(stacks[i]->data() + e * stride, planes[e], numbers, cudaMemcpyDeviceToDevice),
                cudaSuccess);
  }
  device_experts view(activation act) const {
    const auto scale = [&](int i) { return int8 ? scales[i]->data() : nullptr; };
    device_experts on{pointers[0]->data(),
                      pointers[1]->data(),
                      pointers[2]->data(),
                      scale(0),
                      scale(1),
                      scale(2),
                      gate.size(),
                      hidden,
                      act};
    if (stacks[0] != nullptr) {
      on.gate_stack = {stacks[0]->data(), stride};
      on.up_stack = {stacks[1]->data(), stride};
      on.down_stack = {stacks[2]->data(), stride};
    }
    return on;
  }
};

TEST_F(CudaOps, ExpertsEqualTheReference) {
  for (const auto& [int8, stacked] : {std::pair{false, false}, {true, false}, {true, true}}) {
    for (const auto& [rows, width, hidden, experts, k] :
         {std::tuple{1u, 16u, 16u, 2u, 1u}, {1u, 256u, 144u, 8u, 2u},   {2u, 33u, 19u, 4u, 3u},
          {5u, 128u, 64u, 16u, 4u},         {8u, 64u, 48u, 3u, 2u},     {9u, 80u, 96u, 4u, 2u},
          {40u, 128u, 200u, 8u, 2u},        {21u, 35u, 18u, 5u, 2u},    {3u, 192u, 128u, 4u, 2u},
          {8u, 128u, 192u, 6u, 2u},         {60u, 128u, 320u, 4u, 2u},  {150u, 192u, 320u, 4u, 2u},
          {300u, 64u, 128u, 16u, 4u},       {500u, 128u, 192u, 3u, 2u}, {640u, 320u, 448u, 2u, 1u},
          {2100u, 192u, 64u, 8u, 2u},       {700u, 64u, 80u, 2u, 1u},   {1u, 256u, 128u, 8u, 2u},
          {8u, 1024u, 1088u, 8u, 2u},       {16u, 256u, 192u, 8u, 2u},  {64u, 512u, 384u, 16u, 4u},
          {90u, 128u, 64u, 16u, 4u},        {4096u, 32u, 32u, 8u, 2u}}) {
      const mixture mlp(experts, width, hidden, int8, stacked);
      const auto x = random_matrix(rows, width, 1), share = random_matrix(rows, k, 2);
      std::mt19937 random(rows);
      std::vector<std::int32_t> all(experts), chosen;
      for (unsigned e = 0; e < experts; ++e) all[e] = static_cast<std::int32_t>(e);
      for (unsigned t = 0; t < rows; ++t) {
        if (rows != 700 && rows != 16)  // those: all choose the same
          std::shuffle(all.begin(), all.end(), random);
        chosen.insert(chosen.end(), all.begin(), all.begin() + k);
      }
      matrix expected(rows, width);
      const auto seen = rounded(x);
      experts_ref(context(), expected.view(), seen.view(), share.view(), {chosen.data(), rows, k},
                  {mlp.views[0], mlp.views[1], mlp.views[2], activation::silu});
      const device_matrix_of_floats dx(x), ds(share), y(rows, width);
      const on_device<std::int32_t> de(chosen);
      const auto on = mlp.view(activation::silu);
      const on_device<char> workspace(experts_workspace(rows, width, k, on));
      experts_cuda(nullptr, y.out(), dx.in(), ds.in(), {de.data(), rows, k}, on, workspace.data(),
                   limits_here());
      EXPECT_CLOSE(y.read(), expected, 4e-3)
          << rows << " " << width << " " << hidden << " " << int8 << stacked;
    }
  }
}

TEST_F(CudaOps, ARowOfInt8ExpertsIsTheSameInAnyCompany) {
  constexpr std::size_t rows = 64, width = 512, hidden = 1152, experts = 8, k = 2;
  const mixture mlp(experts, width, hidden, true, true);
  const auto x = random_matrix(rows, width, 1), share = random_matrix(rows, k, 2);
  std::vector<std::int32_t> chosen;
  for (unsigned t = 0; t < rows; ++t) {
    const auto first = static_cast<std::int32_t>(t * 7 % experts);
    chosen.insert(chosen.end(), {first, static_cast<std::int32_t>((first + 1 + t % 3) % experts)});
  }
  const device_matrix_of_floats dx(x), ds(share), y(rows, width);
  const on_device<std::int32_t> de(chosen);
  const auto on = mlp.view(activation::silu);
  const on_device<char> workspace(experts_workspace(rows, width, k, on));
  const auto run = [&](std::size_t first, std::size_t count) {
    experts_cuda(nullptr, {y.out().data, count, width}, {dx.in().data + first * width, count, width},
                 {ds.in().data + first * k, count, k}, {de.data() + first * k, count, k}, on,
                 workspace.data(), limits_here());
    return y.read().slice(0, count);
  };
  const auto all = run(0, rows);
  for (const auto& [first, count] : {std::pair{0u, 9u}, {16u, 12u}, {5u, 33u}})
    EXPECT_TRUE(same_bits(run(first, count), all.slice(first, first + count))) << first << " " << count;
  const auto few = run(8, 8);  // cut otherwise
  for (const auto& [first, count] : {std::pair{8u, 1u}, {15u, 1u}, {9u, 2u}, {12u, 4u}})
    EXPECT_TRUE(same_bits(run(first, count), few.slice(first - 8, first - 8 + count)))
        << first << " " << count;
}

TEST_F(CudaOps, RowsWithoutExpertsChangeNothing) {
  for (const std::size_t rows : {4u, 24u}) {
    const mixture mlp(4, 64, 32, false);
    const auto x = random_matrix(rows, 64, 1), share = random_matrix(rows, 2, 2);
    std::vector<std::int32_t> chosen;
    for (unsigned t = 0; t < rows; ++t) {
      chosen.push_back(t < rows / 2 ? 1 : -1);
      chosen.push_back(t < rows / 2 ? 3 : -1);
    }
    const device_matrix_of_floats dx(x), ds(share), y(rows, 64), part(rows / 2, 64);
    const on_device<std::int32_t> de(chosen);
    const auto on = mlp.view(activation::silu);
    const on_device<char> workspace(experts_workspace(rows, 64, 2, on));
    experts_cuda(nullptr, y.out(), dx.in(), ds.in(), {de.data(), rows, 2}, on, workspace.data(),
                 limits_here());
    experts_cuda(nullptr, part.out(), {dx.in().data, rows / 2, 64}, {ds.in().data, rows / 2, 2},
                 {de.data(), rows / 2, 2}, on, workspace.data(), limits_here());
    EXPECT_CLOSE(y.read().slice(0, rows / 2), part.read(), 1e-5);
    for (const float value : y.read().slice(rows / 2, rows).values) ASSERT_EQ(value, 0);
  }
}

}  // namespace
}  // namespace troupe::ops
