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

void CudaBackend::matmul(int stream, Tensor out, Tensor a, Tensor b, Transpose transpose_a, Transpose transpose_b,
                         float alpha, float beta) {
    cuda::matmul(streams_[stream], blas_, scratch_of(stream), out, a, b, transpose_a == Transpose::yes,
                 transpose_b == Transpose::yes, alpha, beta);
}
void CudaBackend::embedding_forward(int stream, Tensor out, Tensor table, Tensor ids) {
    cuda::embedding_forward(streams_[stream], out, table, ids);
}
void CudaBackend::embedding_backward(int stream, Tensor d_table, Tensor d_out, Tensor ids) {
    cuda::embedding_backward(streams_[stream], scratch_of(stream), d_table, d_out, ids);
}
void CudaBackend::rmsnorm_forward(int stream, Tensor y, Tensor rrms, Tensor x, Tensor weight, float eps) {
    cuda::rmsnorm_forward(streams_[stream], y, rrms, x, weight, eps);
}
void CudaBackend::rmsnorm_backward(int stream, Tensor d_x, Tensor d_weight, Tensor d_y, Tensor x, Tensor weight,
                                   Tensor rrms) {
    cuda::rmsnorm_backward(streams_[stream], scratch_of(stream), d_x, d_weight, d_y, x, weight, rrms);
}
void CudaBackend::rotary(int stream, Tensor x, Tensor cos, Tensor sin, std::int64_t head_dim,
                         std::int64_t position_begin, bool inverse) {
    cuda::rotary(streams_[stream], x, cos, sin, head_dim, position_begin, inverse);
}
void CudaBackend::attention_forward(int stream, Tensor out, Tensor lse, Tensor q, Tensor k, Tensor v,
                                    const Windows& windows, const AttentionPlace& place, bool accumulate) {
    cuda::attention_forward(streams_[stream], out, lse, q, k, v, windows, place, accumulate);
}
void CudaBackend::attention_backward(int stream, Tensor d_q, Tensor d_k, Tensor d_v, Tensor d_out, Tensor out,
                                     Tensor lse, Tensor q, Tensor k, Tensor v, const Windows& windows,
                                     const AttentionPlace& place, Tensor delta) {
    cuda::attention_backward(streams_[stream], d_q, d_k, d_v, d_out, out, lse, q, k, v, windows, place, delta);
}
void CudaBackend::merge_attention(int stream, Tensor out, Tensor lse, Tensor other_out, Tensor other_lse) {
    cuda::merge_attention(streams_[stream], out, lse, other_out, other_lse);
}
void CudaBackend::swiglu_forward(int stream, Tensor out, Tensor gate, Tensor up) {
    cuda::swiglu_forward(streams_[stream], out, gate, up);
}
void CudaBackend::swiglu_backward(int stream, Tensor d_gate, Tensor d_up, Tensor d_out, Tensor gate, Tensor up) {
    cuda::swiglu_backward(streams_[stream], d_gate, d_up, d_out, gate, up);
}
void CudaBackend::cross_entropy(int stream, Tensor loss_sum, Tensor logits, Tensor labels, float scale, bool gradient) {
    cuda::cross_entropy(streams_[stream], scratch_of(stream), shared_bytes_, loss_sum, logits, labels, scale, gradient);
}
void CudaBackend::sum_squares(int stream, Tensor sum, Tensor x) {
    cuda::sum_squares(streams_[stream], scratch_of(stream), sum, x);
}
void CudaBackend::clip_scale(int stream, Tensor scale, Tensor sum_squares, Tensor loss_sum, double max_norm) {
    cuda::clip_scale(streams_[stream], scale, sum_squares, loss_sum, max_norm);
}
void CudaBackend::adamw(int stream, Tensor master, Tensor m, Tensor v, Tensor weight, Tensor grad, Tensor scale,
                        const AdamwOptions& options) {
    cuda::adamw(streams_[stream], master, m, v, weight, grad, scale, options);
}
void CudaBackend::fill(int stream, Tensor x, float value) { cuda::fill(streams_[stream], x, value); }
void CudaBackend::add(int stream, Tensor y, Tensor x, float alpha) { cuda::add(streams_[stream], y, x, alpha); }
void CudaBackend::copy(int stream, Tensor y, Tensor x) { cuda::copy(streams_[stream], y, x); }
void CudaBackend::synchronize(int stream) { check(cudaStreamSynchronize(streams_[stream]), "cudaStreamSynchronize"); }

}  // namespace longlora::cuda
