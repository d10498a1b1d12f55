// CudaBackend: passes each operation to the function that queues its kernels.
#include "kernels/cuda/backend.h"

#include "kernels/cuda/attention/attention.h"
#include "kernels/cuda/matmul.h"
#include "kernels/cuda/operations.h"

namespace longlora::cuda {

static std::int64_t shared_bytes_of(int gpu) {
    int bytes = 0;
    check(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, gpu), "cudaDeviceGetAttribute");
    return bytes;
}

CudaBackend::CudaBackend(const Streams& streams, Tensor own, int gpu)
    : streams_(streams),
      scratch_(own.slice(kBlasWorkspaceBytes, kScratchBytes)),
      blas_(streams[0], own.slice(0, kBlasWorkspaceBytes)),
      shared_bytes_(shared_bytes_of(gpu)) {}

Tensor CudaBackend::scratch_of(int stream) const {
    ensure(stream == 0,
           "an operation that needs scratch memory must run on the compute stream, to which that memory belongs");
    return scratch_;
}

void CudaBackend::matmul(int stream, Tensor out, ConstTensor a, ConstTensor b, Transpose transpose_a,
                         Transpose transpose_b, float alpha, float beta) {
    cuda::matmul(streams_[stream], blas_, scratch_of(stream), out, a, b, transpose_a == Transpose::yes,
                 transpose_b == Transpose::yes, alpha, beta);
}
void CudaBackend::embedding_forward(int stream, Tensor out, ConstTensor table, ConstTensor ids) {
    cuda::embedding_forward(streams_[stream], out, table, ids);
}
void CudaBackend::embedding_backward(int stream, Tensor d_table, ConstTensor d_out, ConstTensor ids) {
    cuda::embedding_backward(streams_[stream], scratch_of(stream), d_table, d_out, ids);
}
void CudaBackend::rmsnorm_forward(int stream, Tensor y, Tensor rrms, ConstTensor x, ConstTensor weight, float eps) {
    cuda::rmsnorm_forward(streams_[stream], y, rrms, x, weight, eps);
}
void CudaBackend::rmsnorm_backward(int stream, const RmsnormGradients& gradients, const RmsnormBackwardInputs& inputs) {
    cuda::rmsnorm_backward(streams_[stream], scratch_of(stream), gradients, inputs);
}
void CudaBackend::rotary(int stream, Tensor x, const RotaryAngles& angles, std::int64_t head_dim,
                         std::int64_t position_begin, bool inverse) {
    cuda::rotary(streams_[stream], x, angles, head_dim, position_begin, inverse);
}
void CudaBackend::attention_forward(int stream, const AttentionResult& result, const AttentionInputs& inputs,
                                    const Windows& windows, const AttentionPlace& place, bool accumulate) {
    cuda::attention_forward(streams_[stream], result, inputs, windows, place, accumulate);
}
void CudaBackend::attention_backward(int stream, const AttentionGradients& gradients,
                                     const AttentionBackwardInputs& inputs, const Windows& windows,
                                     const AttentionPlace& place, Tensor delta) {
    cuda::attention_backward(streams_[stream], gradients, inputs, windows, place, delta);
}
void CudaBackend::merge_attention(int stream, const AttentionResult& result, const ConstAttentionResult& other) {
    cuda::merge_attention(streams_[stream], result, other);
}
void CudaBackend::swiglu_forward(int stream, Tensor out, const SwigluInputs& inputs) {
    cuda::swiglu_forward(streams_[stream], out, inputs);
}
void CudaBackend::swiglu_backward(int stream, const SwigluGradients& gradients, const SwigluBackwardInputs& inputs) {
    cuda::swiglu_backward(streams_[stream], gradients, inputs);
}
void CudaBackend::cross_entropy(int stream, Tensor loss_sum, Tensor logits, ConstTensor labels, float scale,
                                bool gradient) {
    cuda::cross_entropy(streams_[stream], scratch_of(stream), shared_bytes_, loss_sum, logits, labels, scale, gradient);
}
void CudaBackend::sum_squares(int stream, Tensor sum, ConstTensor x) {
    cuda::sum_squares(streams_[stream], scratch_of(stream), sum, x);
}
void CudaBackend::clip_scale(int stream, Tensor scale, const ClipInputs& inputs, double max_norm) {
    cuda::clip_scale(streams_[stream], scale, inputs, max_norm);
}
void CudaBackend::adamw(int stream, const AdamwState& state, const AdamwInputs& inputs, const AdamwOptions& options) {
    cuda::adamw(streams_[stream], state, inputs, options);
}
void CudaBackend::fill(int stream, Tensor x, float value) { cuda::fill(streams_[stream], x, value); }
void CudaBackend::add(int stream, Tensor y, ConstTensor x, float alpha) { cuda::add(streams_[stream], y, x, alpha); }
void CudaBackend::copy(int stream, Tensor y, ConstTensor x) { cuda::copy(streams_[stream], y, x); }
void CudaBackend::synchronize(int stream) { check(cudaStreamSynchronize(streams_[stream]), "cudaStreamSynchronize"); }

}  // namespace longlora::cuda
