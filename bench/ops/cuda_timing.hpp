// How the benchmarks of CUDA ops take memory, time and print.
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <vector>

#include "bench/ops/bench_kernels.hpp"

namespace troupe::bench {

inline void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  std::fprintf(stderr, "bench_cuda_ops: %s: %s\n", what, cudaGetErrorString(status));
  std::exit(1);
}

// What take() took.
inline std::vector<void*>& taken() {
  static std::vector<void*> all;
  return all;
}
template <class T>
T* take(std::size_t count, bool random = true) {
  void* p = nullptr;
  const std::size_t bytes = (count * sizeof(T) + 255) / 256 * 256;
  check(cudaMalloc(&p, bytes), "cudaMalloc");
  taken().push_back(p);
  if (random) bench::fill_bf16(static_cast<std::uint32_t*>(p), bytes / 4, 7);
  return static_cast<T*>(p);
}
template <class T>
T* put(const std::vector<T>& values) {
  T* p = take<T>(values.size(), false);
  check(cudaMemcpy(p, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice), "cudaMemcpy");
  return p;
}

inline cudaStream_t on = nullptr;  // what is timed goes there

// Seconds of one call as a captured graph, as decode steps run: median of `runs`.
inline double time_of(const std::function<void(int)>& run, int runs = 9) {
  cudaEvent_t begin, end;
  check(cudaEventCreate(&begin), "event");
  check(cudaEventCreate(&end), "event");
  std::vector<cudaGraphExec_t> graphs;
  check(cudaDeviceSynchronize(), "what is there before");
  run(0);  // what is made once
  check(cudaStreamSynchronize(on), "a first run");
  for (int i = 0; i < runs + 2; ++i) {
    cudaGraph_t graph = nullptr;
    check(cudaStreamBeginCapture(on, cudaStreamCaptureModeThreadLocal), "capture");
    run(i);
    check(cudaStreamEndCapture(on, &graph), "end of capture");
    check(cudaGraphInstantiate(&graphs.emplace_back(), graph, 0), "graph");
    check(cudaGraphDestroy(graph), "graph");
  }
  std::vector<float> all;
  for (std::size_t i = 0; i < graphs.size(); ++i) {
    check(cudaEventRecord(begin, on), "record");
    check(cudaGraphLaunch(graphs[i], on), "launch");
    check(cudaEventRecord(end, on), "record");
    check(cudaEventSynchronize(end), "a run");
    float ms = 0;
    check(cudaEventElapsedTime(&ms, begin, end), "elapsed");
    if (i >= 2) all.push_back(ms);
  }
  check(cudaGetLastError(), "a launch");
  for (auto* graph : graphs) cudaGraphExecDestroy(graph);
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  std::sort(all.begin(), all.end());
  return all[all.size() / 2] / 1e3;
}

inline double reads = 1, operations = 1;  // R and G

inline void row(const char* what, double seconds, double bytes, double flops) {
  const double bound = std::max(bytes / reads, flops / operations);
  std::printf("%-46s %9.1f us  %6.2f TB/s  %7.1f TFLOP/s  share %.2f\n", what, seconds * 1e6,
              bytes / seconds / 1e12, flops / seconds / 1e12, bound / seconds);
}

}  // namespace troupe::bench
