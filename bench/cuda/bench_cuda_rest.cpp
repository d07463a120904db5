// How fast a model of published size sleeps and wakes on this device, beside what its link to the host can: weights made up on the device,
// copied to host memory, their memory given back, and the same back. With --beside another model decodes meanwhile. docs/cuda.md
// explains the lines.
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "bench/cuda/subject.hpp"
#include "kernel/base/text.hpp"
#include "kernel/config/paths.hpp"
#include "ops/backends/cuda/side_stream.hpp"

namespace {

using namespace troupe;
using namespace troupe::bench;
using clock = std::chrono::steady_clock;

double since(clock::time_point start) {
  return std::chrono::duration<double>(clock::now() - start).count();
}

struct options {
  subject_options subject, beside;
  std::string weights = "bf16";
  int rounds = 3;
};

// Bytes per second between pinned memory and the device: what no copy can exceed.
struct link_rates {
  double to_device = 0, to_host = 0;
};

result<double> rate_of(void* to, const void* from, std::uint64_t bytes, cudaMemcpyKind way,
                       cudaStream_t stream) {
  double best = 0;
  for (int i = 0; i < 5; ++i) {
    const auto start = clock::now();
    for (int turn = 0; turn < 4; ++turn)
      if (auto sent = ops::cuda::ok(cudaMemcpyAsync(to, from, bytes, way, stream), "probe of the link");
          !sent)
        return fail(sent.error());
    if (auto done = ops::cuda::ok(cudaStreamSynchronize(stream), "probe of the link"); !done)
      return fail(done.error());
    best = std::max(best, 4 * static_cast<double>(bytes) / since(start));
  }
  return best;
}

result<link_rates> measure_link() {
  constexpr std::uint64_t bytes = std::uint64_t{1} << 30;
  auto host = ops::cuda::pinned_memory::take(bytes, "probe of the link");
  auto device = ops::cuda::device_memory::take(bytes, "probe of the link");
  auto stream = ops::cuda::side_stream::open();
  if (!host || !device || !stream)
    return fail(!host ? host.error() : !device ? device.error() : stream.error());
  const auto down =
      rate_of(device->as<void>(), host->as<void>(), bytes, cudaMemcpyHostToDevice, stream->get());
  if (!down) return fail(down.error());
  const auto up = rate_of(host->as<void>(), device->as<void>(), bytes, cudaMemcpyDeviceToHost, stream->get());
  if (!up) return fail(up.error());
  return link_rates{*down, *up};
}

// Decodes until it is stopped.
class neighbour {
 public:
  explicit neighbour(subject& s) : thread_([this, &s] { work(s); }) {}
  ~neighbour() {
    over_ = true;
    thread_.join();
  }
  // What it did since the last call: "900 steps, median 0.23 ms, 99 % 0.25, largest 0.48".
  std::string told() {
    const std::lock_guard lock(guard_);
    if (!problem_.empty()) return problem_;
    if (seen_.empty()) return "no step";
    std::sort(seen_.begin(), seen_.end());
    const auto text = fmt::format("{} steps, median {:.2f} ms, 99 % {:.2f}, largest {:.2f}", seen_.size(),
                                  seen_[seen_.size() / 2], seen_[seen_.size() * 99 / 100], seen_.back());
    seen_.clear();
    return text;
  }

 private:
  void work(subject& s) {
    while (!over_) {
      const auto found = s.step_times(1, 1024, 16);
      const std::lock_guard lock(guard_);
      if (found)
        for (const double one : *found) seen_.push_back(one * 1e3);
      else
        problem_ = found.error().text;
      if (!found) return;
    }
  }
  std::mutex guard_;
  std::vector<double> seen_;
  std::string problem_;
  std::atomic<bool> over_{false};
  std::thread thread_;
};

void print_transfer(const char* what, std::uint64_t bytes, double seconds, double link) {
  fmt::print("{}  {} in {:.0f} ms: {:.1f} GB/s, {:.2f} of the link", what, human_bytes(bytes), seconds * 1e3,
             static_cast<double>(bytes) / seconds / 1e9, static_cast<double>(bytes) / seconds / link);
}

// One sleep and one wake. Error: what the backend says, or other logits than before.
result<void> round_trip(subject& s, const link_rates& link, const std::vector<float>& expected,
                        neighbour* beside) {
  const auto before = ops::cuda::free_bytes();
  if (beside != nullptr) fmt::print("  beside, alone: {}\n", beside->told());
  auto start = clock::now();
  const auto asleep = s.model().sleep();
  if (!asleep) return fail(asleep.error());
  print_transfer("  sleep", asleep->host_bytes, since(start), link.to_host);
  const auto after = ops::cuda::free_bytes();
  if (!before || !after) return fail(!before ? before.error() : after.error());
  fmt::print("; {} of the device free again\n", human_bytes(*after - *before));
  if (beside != nullptr) fmt::print("  beside, meanwhile: {}\n", beside->told());
  start = clock::now();
  auto awake = s.model().wake();
  if (!awake) return fail(awake.error());
  print_transfer("  wake ", awake->host_bytes, since(start), link.to_device);
  start = clock::now();
  const auto found = s.logits();
  if (!found) return fail(found.error());
  fmt::print("; the first step {:.1f} ms, its logits {}\n", since(start) * 1e3,
             *found == expected ? "those of before" : "OTHERS THAN BEFORE");
  if (beside != nullptr) fmt::print("  beside, meanwhile: {}\n", beside->told());
  start = clock::now();
  awake->spent.reset();
  fmt::print("  host memory given back in {:.0f} ms\n", since(start) * 1e3);
  std::fflush(stdout);
  if (*found != expected) return fail(error_code::internal, "other logits than before it slept");
  return {};
}

result<void> run(const options& o) {
  const auto paths = config::find_install();
  auto store = modules::store::open(paths.module_store);
  if (!store) return fail(store.error());
  modules::registry known;
  for (const auto& broken : known.add_folder(*store, paths.modules))
    std::fprintf(stderr, "bench_cuda_rest: %s\n", broken.text.c_str());
  const auto link = measure_link();
  if (!link) return fail(link.error());
  fmt::print("== {} {}: link {:.1f} GB/s to the device, {:.1f} GB/s to the host (pinned, 1 GiB)\n",
             o.subject.config.stem().string(), o.weights, link->to_device / 1e9, link->to_host / 1e9);
  auto opened = subject::open(o.subject, known);
  if (!opened) return fail(opened.error());
  fmt::print("{}", (*opened)->told());
  std::unique_ptr<subject> other;
  std::unique_ptr<neighbour> beside;
  if (!o.beside.config.empty()) {
    auto second = subject::open(o.beside, known);
    if (!second) return fail(second.error());
    other = std::move(*second);
    beside = std::make_unique<neighbour>(*other);
    std::this_thread::sleep_for(std::chrono::seconds(1));
  }
  const auto expected = (*opened)->logits();
  if (!expected) return fail(expected.error());
  const auto steps_before = (*opened)->decode(1, 1024, 16);
  if (!steps_before) return fail(steps_before.error());
  for (int i = 0; i < o.rounds; ++i)
    if (auto done = round_trip(**opened, *link, *expected, beside.get()); !done) return done;
  const auto steps_after = (*opened)->decode(1, 1024, 16);
  if (!steps_after) return fail(steps_after.error());
  fmt::print("  a step of one sequence: {:.2f} ms before, {:.2f} ms after\n", steps_before->seconds * 1e3,
             steps_after->seconds * 1e3);
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  options o;
  o.subject.most_cache_bytes = o.beside.most_cache_bytes = std::uint64_t{2} << 30;
  o.subject.step_tokens = o.beside.step_tokens = 512;
  o.subject.sequences = o.beside.sequences = 8;
  CLI::App app("Measures how fast a model of published size sleeps and wakes on the first CUDA device.");
  app.add_option("config", o.subject.config, "config.json of the model")->required();
  app.add_option("--weights", o.weights, "bf16 or int8")->check(CLI::IsMember({"bf16", "int8"}));
  app.add_option("--rounds", o.rounds, "Of one sleep and one wake");
  app.add_option("--beside", o.beside.config, "config.json of a model that decodes meanwhile");
  app.add_option("--seed", o.subject.seed, "Of the weights");
  CLI11_PARSE(app, argc, argv);
  o.subject.int8 = o.weights == "int8";
  if (auto done = run(o); !done) {
    std::fprintf(stderr, "bench_cuda_rest: %s\n", done.error().text.c_str());
    return 1;
  }
  return 0;
}
