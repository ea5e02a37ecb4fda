/* Swift's two conversions of float16 by F16C's instructions. A half is passed in the low 16 bits of an SSE register. */
#include <immintrin.h>

float __extendhfsf2(__m128i half) { return _mm_cvtss_f32(_mm_cvtph_ps(half)); }

__m128i __truncsfhf2(float single) { return _mm_cvtps_ph(_mm_set_ss(single), _MM_FROUND_TO_NEAREST_INT); }
