// What whole models of published size reach on this device, beside what it can: decode by batch and context, prefill by length, and where
// the time goes. Weights are made up on the device (no files). docs/cuda.md explains the columns.
#include <fmt/format.h>

#include <algorithm>
#include <CLI/CLI.hpp>
#include <cstdio>
#include <map>

#include "bench/cuda/ceilings.hpp"
#include "bench/cuda/subject.hpp"
#include "kernel/config/paths.hpp"

namespace {

using namespace troupe;
using namespace troupe::bench;

struct options {
  subject_options subject;
  std::string weights = "bf16";
  std::vector<std::size_t> batches{1, 8, 32, 64}, contexts{1024, 8192, 32768}, prompts{1024, 8192, 32768};
  std::vector<std::string> profiles{"1x1024", "8x1024", "32x8192", "64x1024", "prefill:8192"};
  std::size_t steps = 20;
};

std::string size_text(std::size_t n) {
  return n >= 1024 && n % 1024 == 0 ? fmt::format("{}K", n / 1024) : fmt::format("{}", n);
}

// Times of a trace, in seconds per step.
struct spans {
  double busy = 0;     // something runs
  double inside = 0;   // nothing does, within a step
  double between = 0;  // nothing does, from a step's end to the next one's beginning
};
spans spans_of(const std::vector<activity>& seen, std::size_t steps) {
  spans out;
  std::uint64_t end = 0;
  bool ended = true;
  for (const auto& a : seen) {
    if (end != 0 && a.begin > end) (ended ? out.between : out.inside) += static_cast<double>(a.begin - end);
    out.busy += static_cast<double>(a.end - std::min(a.end, std::max(a.begin, end)));
    end = std::max(end, a.end);
    ended = a.ends_step;
  }
  for (double* x : {&out.busy, &out.inside, &out.between}) *x /= static_cast<double>(steps) * 1e9;
  return out;
}

// Which of the bytes that a step has to move a kernel is there for, by its name; 0 = none of them.
double bytes_for(const std::string& name, const workload& work) {
  const auto has = [&](const char* part) { return name.find(part) != name.npos; };
  if (has("gate_up")) return work.experts * 2 / 3;
  if (has("down<")) return work.experts / 3;
  if (has("tile_form)1") || has("wide_form)0") || has("narrow_form)1")) return work.experts * 2 / 3;
  if (has("tile_form)2") || has("narrow_form)2")) return work.experts / 3;
  if (has("attend")) return work.cache;
  if (has("scan") || has("convolve")) return work.state;
  if (has("few_rows_of") || has("narrow_form)0") || has("nvjet") || has("gemm") || has("linear"))
    return work.linear;
  return 0;
}

void print_profile(const std::string& what, const std::vector<activity>& seen, std::size_t steps,
                   const workload& work) {
  struct entry {
    double seconds = 0;
    std::size_t launches = 0;
  };
  std::map<std::string, entry> kernels;
  double all = 0;
  // Kernels begin while those before them end: to each the time from there on, so that the sum is that of the step.
  std::uint64_t end = 0;
  for (const auto& a : seen) {
    auto& one = kernels[a.name];
    const double own = static_cast<double>(a.end - std::min(a.end, std::max(a.begin, end))) / 1e9 /
                       static_cast<double>(steps);
    end = std::max(end, a.end);
    one.seconds += own;
    ++one.launches;
    all += own;
  }
  std::vector<std::pair<std::string, entry>> order(kernels.begin(), kernels.end());
  std::sort(order.begin(), order.end(),
            [](const auto& a, const auto& b) { return a.second.seconds > b.second.seconds; });
  fmt::print(
      "profile {}: bytes of a step: experts {:.2f}, linear {:.2f}, cache {:.2f}, state {:.2f}, other {:.3f} "
      "GB; {:.2f} Top\n",
      what, work.experts / 1e9, work.linear / 1e9, work.cache / 1e9, work.state / 1e9, work.other / 1e9,
      work.operations / 1e12);
  for (std::size_t i = 0; i < order.size() && i < 16; ++i) {
    const auto& [name, one] = order[i];
    const double bytes = bytes_for(name, work);
    fmt::print("  {:<56} {:>9.1f} us {:>5.1f} %  {:>5.1f} launches{}\n", name, one.seconds * 1e6,
               100 * one.seconds / all, static_cast<double>(one.launches) / static_cast<double>(steps),
               bytes > 0 ? fmt::format("  of {:.2f} GB", bytes / 1e9) : "");
  }
}

class bench_run {
 public:
  bench_run(const options& o, const ceilings& on, subject& s) : o_(o), on_(on), s_(s) {}

  void decode() {
    fmt::print(
        "decode  batch context   step ms   tokens/s  bound ms share  busy ms exposed us (inside) (between)  "
        "experts\n");
    for (const std::size_t context : o_.contexts)
      for (const std::size_t batch : o_.batches) {
        if (!s_.fits(batch, context)) {
          if (context <= s_.program().facts()->context_tokens())
            fmt::print("        {:>5} {:>7}   cache too small\n", batch, size_text(context));
          continue;
        }
        const auto found = s_.decode(batch, context, o_.steps);
        if (!found) return complain(found.error());
        const auto work = work_of(s_.program(), o_.subject.int8, found->shape, found->chosen);
        const auto seen = s_.trace_decode(batch, context, traced);
        std::string idle = "      -";
        if (seen) {
          const auto span = spans_of(*seen, traced);
          idle = fmt::format("{:>8.3f} {:>10.0f} {:>8.0f} {:>9.0f}", span.busy * 1e3,
                             (found->seconds - span.busy) * 1e6, span.inside * 1e6, span.between * 1e6);
          keep(fmt::format("{}x{}", batch, context), *seen, traced, work);
        } else {
          std::fprintf(stderr, "%s\n", seen.error().text.c_str());
        }
        double experts = 0;
        for (const double one : found->chosen) experts += one / static_cast<double>(found->chosen.size());
        const double bound = work.seconds(on_);
        fmt::print("        {:>5} {:>7} {:>9.3f} {:>10.1f} {:>9.3f} {:>5.2f} {} {:>8.2f}\n", batch,
                   size_text(context), found->seconds * 1e3, static_cast<double>(batch) / found->seconds,
                   bound * 1e3, bound / found->seconds, idle, experts);
        std::fflush(stdout);
      }
  }

  void prefill() {
    fmt::print("prefill tokens        ms   tokens/s  bound ms share  TFLOP/s  chunks of {}\n",
               o_.subject.step_tokens);
    for (const std::size_t tokens : o_.prompts) {
      if (!s_.fits(1, tokens)) continue;
      const auto found = s_.prefill(tokens);
      if (!found) return complain(found.error());
      const auto work = work_of(s_.program(), o_.subject.int8, found->shape, found->chosen);
      const double bound = work.seconds(on_);
      fmt::print("        {:>6} {:>9.1f} {:>10.0f} {:>9.1f} {:>5.2f} {:>8.1f}\n", size_text(tokens),
                 found->seconds * 1e3, static_cast<double>(tokens) / found->seconds, bound * 1e3,
                 bound / found->seconds, work.operations / found->seconds / 1e12);
      std::fflush(stdout);
      const auto name = fmt::format("prefill:{}", tokens);
      if (!wanted(name)) continue;
      if (const auto seen = s_.trace_prefill(tokens)) keep(name, *seen, 1, work);
    }
  }

  void profiles() const {
    for (const auto& one : kept_) print_profile(one.name, one.seen, one.steps, one.work);
  }
  bool failed() const { return failed_; }

 private:
  static constexpr std::size_t traced = 6;
  struct profile {
    std::string name;
    std::vector<activity> seen;
    std::size_t steps;
    workload work;
  };
  bool wanted(const std::string& name) const {
    return std::find(o_.profiles.begin(), o_.profiles.end(), name) != o_.profiles.end();
  }
  void keep(const std::string& name, const std::vector<activity>& seen, std::size_t steps,
            const workload& work) {
    if (wanted(name)) kept_.push_back({name, seen, steps, work});
  }
  void complain(const error& e) {
    std::fprintf(stderr, "bench_cuda_serving: %s\n", e.text.c_str());
    failed_ = true;
  }

  const options& o_;
  const ceilings& on_;
  subject& s_;
  std::vector<profile> kept_;
  bool failed_ = false;
};

result<bool> run(const options& o) {
  const auto paths = config::find_install();
  auto store = modules::store::open(paths.module_store);
  if (!store) return fail(store.error());
  modules::registry known;
  for (const auto& broken : known.add_folder(*store, paths.modules))
    std::fprintf(stderr, "bench_cuda_serving: %s\n", broken.text.c_str());
  auto products = ops::cuda::gemm::open();
  if (!products) return fail(products.error());
  const auto on = measure_ceilings(**products);
  if (!on) return fail(on.error());
  fmt::print("== {} {} on {}: R {:.2f} TB/s, G {:.0f} TFLOP/s\n", o.subject.config.stem().string(), o.weights,
             on->device, on->reads / 1e12, on->operations / 1e12);
  auto opened = subject::open(o.subject, known);
  if (!opened) return fail(opened.error());
  fmt::print("{}made and loaded in {:.2f} s\n", (*opened)->told(), (*opened)->load_seconds());
  bench_run bench(o, *on, **opened);
  bench.decode();
  bench.prefill();
  bench.profiles();
  return !bench.failed();
}

}  // namespace

int main(int argc, char** argv) {
  options o;
  CLI::App app("Measures a model of published size with made-up weights on the first CUDA device.");
  app.add_option("config", o.subject.config, "config.json of the model")->required();
  app.add_option("--weights", o.weights, "bf16 or int8")->check(CLI::IsMember({"bf16", "int8"}));
  app.add_option("--batches", o.batches, "Sequences that decode together")->delimiter(',');
  app.add_option("--contexts", o.contexts, "Positions behind which they decode")->delimiter(',');
  app.add_option("--prompts", o.prompts, "Tokens of a prompt")->delimiter(',');
  app.add_option("--profiles", o.profiles, "Cells to show the kernels of")->delimiter(',');
  app.add_option("--steps", o.steps, "Timed steps of each cell");
  app.add_option("--step-tokens", o.subject.step_tokens, "Tokens of a prompt in one step");
  app.add_option("--seed", o.subject.seed, "Of the weights");
  CLI11_PARSE(app, argc, argv);
  o.subject.int8 = o.weights == "int8";
  for (const std::size_t batch : o.batches)
    o.subject.sequences = std::max(o.subject.sequences, static_cast<std::uint32_t>(batch));
  const auto done = run(o);
  if (!done) {
    std::fprintf(stderr, "bench_cuda_serving: %s\n", done.error().text.c_str());
    return 1;
  }
  return *done ? 0 : 1;
}
