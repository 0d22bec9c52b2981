// Every constant that was chosen by measurement or by a cache's size. Figures are of one core of an
// AMD EPYC (Zen 4; 32 KiB L1, 1 MiB L2), AVX-512, taken with tools/time_kernel.cc, unless others
// are named: those of a Zen 5 (48 KiB L1, 1 MiB L2, 32 MiB L3) and a Zen 1 (512 KiB L2, 8 MiB L3;
// AVX2) compare builds with one value and the other in turns, as benchmarks/builds.py does.
#ifndef DEPTHWISE_KERNELS_TUNING_H_
#define DEPTHWISE_KERNELS_TUNING_H_

#include <stdint.h>

namespace depthwise::tuning {

// Below this many multiply-adds and elements that the image has more than the results a call stays
// on the caller's thread: sharing costs about as much as the work. Two cores of a Zen 4 took,
// without these elements and with them, in us, for 3x3 at stride 3 on 40x40x20 5.5 and 3.9,
// training steps 20 and 14, for 1x1 at stride 2 on 40x40x30 3.9 and 3.0, 17 and 11, for 2x3 at
// strides 2 and 3 on 3 of channels-first 57x23x6 10.8 and 6.7, 53 and 31.
constexpr int64_t serial_work = 40'000;

// Below this many it does so unless some calls have followed each other closely, so that threads
// are awake or worth waking. Waking one takes 6 us of the caller's time, and 20 to 40 us until it
// comes: then so much work is done. 3x3 on 14x14x512, called from NumPy 200 us after the last call,
// took 62 us waking a thread and 36 on one (medians of three runs on a busy Zen 5).
constexpr int64_t brief_work = 1'500'000;
constexpr int64_t close_nanoseconds = 100'000;
constexpr int64_t close_calls = 3;

// Tasks per thread that a call is cut into, so that a late thread does not hold up the others;
// fewer for brief calls, whose tasks would be of a microsecond or two: 3x3 on 14x14x480 took two
// threads of a Zen 5 9.6 us in 8 tasks and 7.8 in 4.
constexpr int64_t tasks_per_thread = 4;
constexpr int64_t brief_tasks_per_thread = 2;

// Channels whose rows are read in place are all in one block where the rows that one row of results
// needs, and the weights, have so many bytes at most: weights twice, with input and results below
// `outgrowing_bytes`, which two second-level caches of 1 MiB keep from call to call, and from there
// on. Two cores of a Zen 4 took in blocks of 80 and 12 KiB, and like this, in us, for 3x3 on
// 28x28x384 47 and 32, 14x14x768 35 and 17, 10x10x1200 25 and 16, 56x56x256 111 and 91, 57x57x384
// 179 and 133, 112x112x128 246 and 168, 95x95x192 248 and 188; for 5x5 on 28x28x240 57 and 46,
// 20x20x400 48 and 40, 66x66x432 562 and 466, on 8 of 14x14x672 256 and 232; for 7x7 on 28x28x160
// 67 and 57. With 160 KiB of weights for all, 5x5 on 14x14x480 took 27 and 29, on 14x14x672 36 and
// 42, with 40 KiB 5x5 on 24x24x480 77 and 78, with 64 69.
constexpr int64_t whole_rows_bytes = 800 * 1024;
constexpr int64_t whole_weights_bytes = 40 * 1024;
constexpr int64_t outgrowing_weights_bytes = 160 * 1024;
constexpr int64_t outgrowing_bytes = 1280 * 1024;

// Else a block's rows and weights have so many bytes. On a Zen 5 core (48 KiB L1, 1 MiB L2) 3x3 on
// 56x56x128 took 78 us with 28 KiB of rows and 63 with 80, on 28x28x256 40 and 34. The weights'
// bound was measured when tiles held one row of results: 7x7 on 14x14x384 took 74 us with 24 KiB,
// 67 with 16, 60 with 12 and 8.
constexpr int64_t direct_rows_bytes = 80 * 1024;
constexpr int64_t direct_weights_bytes = 12 * 1024;
// Those of rows that are fetched from memory. Two cores of a Zen 5 took 5.2 ms for 3x3 on 16 images
// of 95x95x192 with 80 KiB of rows and 5.0 with 400, 4.15 and 4.19 for 5x5 at stride 2. With 400,
// 5x5 at stride 2 on 16 of 114x114x240 took 7.7 with 12 KiB of weights, 6.5 with 24 and 6.6 with
// 100. 3x3 at stride 2 on 4 of 264x264x192, whose channels 400 KiB cut in two, took 10.6 ms,
// and 7.0 with 800; without a bound 7.4.
constexpr int64_t fetched_rows_bytes = 800 * 1024;
constexpr int64_t fetched_weights_bytes = 24 * 1024;
// Such rows in which more bytes would be near are cut into blocks of columns. Two cores of a Zen 4
// took uncut, with 128, 256, 400 and 600 KiB, in ms, for 3x3 at stride 2 on 4 of 300x300x192 11.7,
// 9.8, 9.7, 9.4 and 9.5, on 4 of 228x228x144 2.7, 2.8, 2.3, 2.4 and 2.4, for 3x3 on 2 of
// 264x264x192 6.4, 6.3, 6.0, 5.4 and 5.6, for 5x5 on 8 of 75x75x480 6.6, 6.5, 6.0, 6.2 and 6.1.
constexpr int64_t fetched_columns_bytes = 400 * 1024;
constexpr int64_t least_fetched_columns = 16;
// So are those of the gradients where the input's rows would have more: the first where columns are
// whole lines, of which blocks of channels share none, else the second. Two cores of a Zen 4 took
// for training steps uncut, with 32, 64 and 128 KiB, in ms, for 3x3 on 264x264x56 3.5, 3.0, 2.9 and
// 3.3; the gradients alone of 8 of 75x75x192 in arrays that begin between lines 10.4, 10.2, 5.3 and
// 5.5, of 4 of 150x150x288 37.6, 37.7, 38.5 and 16.5; in blocks of 8 columns, at stride 2 on 8 of
// 75x75x480, 9.3 and 10.9. Uncut, with 128, 256 and 400 KiB, 2x2 at stride 2 on 80x80x763 took 2.8,
// 2.8, 2.2 and 2.4, 3x3 on 8 of 40x40x500 6.2, 6.0, 6.5 and 6.4.
constexpr int64_t gradient_columns_bytes = 128 * 1024;
constexpr int64_t gradient_part_lines_bytes = 256 * 1024;
constexpr int64_t least_gradient_columns = 12;

// Rows of results of a task, at least, where there are channels to be cut into tasks instead: rows
// between two tasks are read twice. Two cores of a Zen 5 took 37.2 us for 3x3 on 56x56x128 with 8
// and 35.3 with 4, 15.5 and 14.5 for 5x5 on 14x14x480; two of a Zen 4 for 3x3 with 4 and with 2 on
// 7x7x1152 26 and 12, on 14x14x1536 49 and 41, on 14x14x512 16.5 and 14.8.
constexpr int64_t least_task_rows = 2;

// Vectors of channels that a block has at least, read in place and staged: shorter runs of memory
// do not stream.
constexpr int64_t least_block_vectors = 4;
constexpr int64_t least_staged_vectors = 6;

// Vectors of channels that a block has at most where planes of at least so many columns are
// transposed as they are staged, in cache and from memory. Two cores of a Zen 5 took with 6 or
// more, 2 and 1 of them, in us, for 3x3 at stride 2 on 56x56x144 56, 46 and 46, on 112x112x64 144,
// 130 and 124, for 3x3 on 56x56x128 86, 75 and 73, for 5x5 on 28x28x240 68, 61 and 67; on 14x14x512
// 20, 26 and 33. Two of a Zen 4 with 4, 3, 2 and 1: 7x7 on 56x56x96 180, 180, 198 and 188, on
// 28x28x192 98, 91, 94 and 104, 3x3 at stride 2 on 30x30x500 68, 61, 63 and 69. From memory, in ms:
// 10x1 at stride 3 on 12 of 74x34x449 with 3, 2 and 1 4.4, 4.0 and 2.4; two cores of a Zen 5 for
// 3x3 on 8 of 112x112x64, with 6, 2 and 1, 2.6, 2.3 and 1.9, on 12 of 56x56x128 2.5, 2.3 and 1.9.
constexpr int64_t plane_columns = 28;
constexpr int64_t plane_vectors = 3;
constexpr int64_t fetched_plane_vectors = 1;

// Planes with shorter rows than this, which touch, are transposed at once, not row by row: vectors
// along their columns are fuller. Two cores of a Zen 4 took, row by row and so, in us, for 3x3 on
// 7x7x960 16.2 and 12.4, for 5x5 on 7x7x1152 25.9 and 21.4, at stride 2 on 14x14x672 29.3 and 19.3,
// for 3x3 on 14x14x576 28.7 and 23.9, on 16x16x240 15.1 and 15.1, on 20x20x313 29.6 and 29.4, for
// 5x5 on 27x27x128 35.8 and 34.8.
constexpr int64_t touching_columns = 28;

// How many rows further on the one is that is asked for of each plane while one is transposed. Two
// cores of a Zen 4 took for training steps, not asking, with 1, 3 and 6, in ms, of 3x3 on 12 of
// 56x56x128 6.1, 4.4, 4.5 and 4.9, on 32 of 14x14x512 6.3, 6.0, 4.7 and 5.6, of 7x7 on 12 of
// 56x56x96 9.8, 8.3, 8.4 and 8.7.
constexpr int64_t plane_rows_ahead = 3;

// Vectors of channels that a block of a kernel's gradient has at least whose rows are fetched from
// memory: both gradients of 3x3 at stride 2 on 32 images of 14x14x512 took two cores of a Zen 5 764
// us with 4 and 620 with 16.
constexpr int64_t least_fetched_vectors = 16;

// Rows that could be read in place are staged where each element is used at least so often, and a
// tile has more lines than this in one of the 64 sets of a first-level cache of 8 to 12 ways. Two
// cores of a Zen 4 took staged and in place, in us, for 5x5 on 14x14x1024 (60 lines in one set) 74
// and 138, for 7x7 on 7x7x1024 (49) 31 and 44; for 5x5 on 28x28x512 (30) 123 and 100, on 14x14x512
// 38 and 31; for 3x3 on 28x28x1024 (30) 154 and 162, on 14x14x1024 43 and 40; one core for 7x7 at
// stride 3 and dilation 2 on 48x48x256 140 and 196. Kernels of `evicting_taps` and more are not:
// 27x27 on 14x14x512 took 243 and 208.
constexpr int64_t staged_reuse = 4;
constexpr int64_t evicting_lines = 32;

// Planes so many bytes apart (or a multiple) have a row in the same sets of the first-level cache.
// Two cores of a Zen 4 took, where a few columns of all planes are read at a time and where a few
// lines of each are, in us, for 6x6 at stride 2 on channels-first 128x128x32 123 and 115, on
// 64x64x128 133 and 127, for training steps of 3x3 on 32x32x256 316 and 274, at stride 2 on
// 64x64x144 262 and 245.
constexpr int64_t evicting_plane_bytes = 4096;

// With a multiplier of m, an input element that at most m times so many taps use is staged once and
// repeated as it is loaded; one that more use is staged in m copies. Two cores of a Zen 5 took, in
// copies and repeated, in us, on channels-first 28x28x128 for 3x3 at stride 2 and m of 4 38 and 27,
// 5x5 50 and 40, 7x7 67 and 63, 9x9 86 and 85; with m of 2, 20 and 16, 27 and 23, 35 and 38, 43 and
// 49; 7x7 at stride 1 on 14x14x96, m of 3: 28 and 36.
constexpr int64_t most_repeated_loads = 4;

// Elements so far apart at most are picked out of whole vectors, not loaded one by one. Two cores
// of a Zen 4 took, one by one and so, in us, for training steps of 2x2 on 16 of 35x35x5 267 and
// 193, of 5x5 on 4 of 112x112x5 614 and 511, for 1x1 on channels-first 130x130x8 at stride 5 5.0
// and 3.7, at stride 8 3.7 and 2.9, but for 9x9 at stride 12 on it 20.1 and 20.3, at stride 16 on
// 200x200x4 32 and 57.
constexpr int64_t most_shuffled_stride = 8;

// With a multiplier, the input's gradient of so many channels at most is summed element by element.
// Two cores of a Zen 4 took for training steps, in vectors and so, in us, for 3x3 on 60x60x1 by 8
// 59 and 46, on 60x60x2 by 3 52 and 48, on 60x60x3 by 3 58 and 55, by 16 132 and 119, on 60x60x4 by
// 3 58 and 58, at stride 3 on 4 of 103x103x2 by 3 268 and 212.
constexpr int64_t few_summed_channels = 3;

// Where no element is used twice, tiles of four columns are for as many pixels at most: each is a
// run of memory of its own. Two cores of a Zen 4 took with four columns and with two, in us, for
// 3x3 at stride 3 on 8 of 37x34x800 749 and 614, on 2 of 60x60x512 192 and 172, on 114x114x197 107
// and 109, on 27x27x768 22.5 and 23.7; for 2x2 at stride 2 on 56x56x960 107 and 117, on 64x64x96
// 13.5 and 14.8, but on 28x28x512, where they evict each other, 17.5 and 13.9.
constexpr int64_t most_ordered_pixels = 16;

// Bytes of staged data per thread, within every L2 cache in use today. 96 and 256 KiB were alike,
// 24 and 48 KiB up to 1.5 times slower.
constexpr int64_t staged_bytes = 160 * 1024;

// Outputs of at least so many bytes are written past the caches (a quarter of a 32 MiB last-level
// one). A chain of 3x3 at stride 1, a multiplication and an addition of the whole image took 1.1
// times as long with it at 1 to 5 MB, as long at 7 MB, and 0.75 to 0.8 times from 10 to 29 MB; the
// convolution alone, at 26 MB, 0.65 times, and 0.5 times with rows asked for ahead. So are smaller
// ones where input and results come to memory_bytes: two cores of a Zen 4 took by way of the caches
// and past them for 3x3 at stride 2 on 228x228x144 (7 MiB of results) 995 and 473 us, on
// 190x190x144 (5) 585 and 325, on 8 of 112x112x64 (6) 460 and 384.
constexpr int64_t streamed_bytes = 8 * 1024 * 1024;

// Of a smaller last-level cache, so many sixteenths instead of these bytes and those of gradients,
// and of memory_bytes. Two cores of a Zen 1 with 8 MiB took, in us, with all bytes, and with a
// quarter of each, for 3x3 at stride 2 on 4 of 56x56x144 (1.7 MiB of results, 8.6 with the input)
// 818 and 379, on 8 1501 and 991, at stride 1 on 16 of 28x28x192 (9.2 and 18) 2040 and 1294, but on
// 4 of them (2.3 and 4.6) 258 and 290, on 2 of 112x112x32 (3.1 and 6.1) 384 and 439; for training
// steps 2249 and 1638, 4155 and 3226, 5663 and 4782, 1276 and 1157, 1897 and 1525, on one of
// 112x112x32 (1.5 and 3.1) 655 and 701.
constexpr int64_t streamed_sixteenths = 7;
constexpr int64_t memory_sixteenths = 13;

// Bytes of a row that are made aside before they are streamed. Two cores of a Zen 4 took with 3, 6
// and 12 KiB and with whole rows, in ms, for 3x3 on 8 of 264x264x56 5.9, 6.2, 7.0 and 9.0, on
// 264x264x24 3.0, 2.4, 2.6 and 2.9, on 264x264x64 whose lines arrays do not begin with 8.5, 8.1,
// 9.0 and 10.3.
constexpr int64_t aside_bytes = 6 * 1024;

// Runs of results that are streamed from rows made aside are of so many bytes at least.
constexpr int64_t least_streamed_bytes = 256;

// A call whose inputs and results are so many bytes together (five eighths of that cache) reads
// from memory. Two cores of a Zen 4 took, in us, asking for rows ahead from 24 MiB on and from 8
// on, for 3x3 at stride 2 on 8 images of 38x38x288 (16 MiB) 182 and 209, on 12 of them 749 and 529;
// on 16 of 28x28x192 116 and 147, on 4 of 112x112x64 177 and 196; for 3x3 on 8 of 56x56x128 481 and
// 480. Where between 16 and 24 MiB it turns was not measured.
constexpr int64_t memory_bytes = 20 * 1024 * 1024;

// The same for gradients, which go over twice as much. Both of 3x3 on images of 14x14x480 took one
// core of a Zen 5 per image, in us, by way of the caches and as from memory: 8 images (5.7 MiB with
// their results) 48 and 53, 12 of them 56 and 55, 16 162 and 61, 20 100 and 66. With two operations
// on the input's gradient after them, 3x3 on 3 of 56x56x128 took two cores 1490 us and, past the
// caches, 960, on 16 of 14x14x480 2480 and 1420.
constexpr int64_t gradient_memory_bytes = 8 * 1024 * 1024;

// A thread's scratch, at most: a second-level cache of 1 MiB, less what tiles note down. Blocks of
// columns that this makes have so many columns at least.
constexpr int64_t scratch_bytes = 960 * 1024;

// Large kernels go by three products instead of four where that leaves out so many of the taps that
// a result has in the image, on the average: to split and to add takes as long. Two cores of a Zen
// 1 took, directly and so, in us (tools/time_kernel.cc takes a kernel's name), for 13x13 on
// 56x56x64 1027 and 1036, on 28x28x64 261 and 292, for 15x15 on 40x40x64 719 and 654, on 28x28x64
// 336 and 339, for 17x17 on 20x20x64 208 and 226, on 28x28x64 447 and 379, for 21x21 on 20x20x64
// 266 and 281, for 9x31 on 56x56x64 1604 and 1410, for 27x27 on 14x14x512 858 and 870, for 31x31 on
// 28x28x64 1040 and 790, on 56x56x128 15028 and 6624, for 63x63 on 56x56x64 21146 and 10047. Fewer
// taps than `least_split_taps` never come to that.
constexpr double splitting_taps = 64;
constexpr int64_t least_split_taps = 144;

// A block of these has so many vectors of channels at most where it then has so many bytes, and
// there are so many blocks all the same; else one. Two cores of a Zen 1 took with one and with two,
// in us, for 17x17 on 28x28x256 1526 and 1326, for 29x29 2893 and 2695, for 21x21 on 28x28x512 4247
// and 3754; with four, 27x27 on 14x14x512 872, with two 955, with one 1220.
constexpr int64_t most_split_vectors = 4;
constexpr int64_t wide_split_bytes = 224 * 1024;
constexpr int64_t least_split_blocks = 8;
// Where channels make fewer blocks, rows are cut, but not into fewer than these.
constexpr int64_t least_split_rows = 8;
constexpr int64_t least_block_columns = 32;

// Elements of a piece of a plane whose kernel is one tap, and of the weights that channels side by
// side go through at most: both within the first-level cache.
constexpr int64_t scale_piece = 4096;
constexpr int64_t most_scale_period = 2048;

// Rows that a block of the pixels family goes over at most: 8 KiB of addresses.
constexpr int64_t most_pixel_rows = 1024;

// The most elements that a clipped tile goes over (64 KiB of addresses): kernels of up to 80 x 80.
constexpr int64_t most_clipped_elements = 8192;

// Planes that are read where they are are asked for so far ahead. In one run two cores of a Zen 5
// took, without and with this, for 3x3 on 16 of 112x112x32 1092 and 565 us, for 2x2 on 109x40x671
// 349 and 275; in two runs, at stride 2 on 8 of 112x112x64 1065 and 334. In the caches it takes no
// more and no less, and half as far is as good.
constexpr int64_t strip_ahead_bytes = 4096;

// Rows that tiles go over are asked for so far ahead along each: 3x3 at stride 2 on 10 of 17x59x905
// took 1390 us with a whole row (209 KiB), 998 with 80,000 bytes, 918 with 40,000, 1080 with 20,000
// and 1161 with 10,000; on 32 of 75x75x480 12.1 ms, 11.0, 11.0, 11.9 and 13.1; on 24 of 38x38x288
// 613, 617, 631, 600 and 745 us; 3x3 on 2 of 150x150x288 2.01 ms with 32 KiB and 1.79 with 64.
constexpr int64_t row_ahead_bytes = 48 * 1024;

// Planes with at least so many rows of adjacent taps go row by row of the source (plane_tile.h).
// Two cores of a Zen 4 took from 8 and from 2 rows on, in us, for 6x6 on channels-first 64x64x8 27
// and 18, for 5x7 27 and 18, for 2x7 15 and 12, for 3x9 21 and 16, for training steps 91 and 77, 93
// and 76, 52 and 49, 73 and 65.
constexpr int64_t source_plane_taps = 2;

// Rows of the input that a row of taps reaches in a block of the kernel's gradient, where these
// come from memory: all channels if they are no more than the first (twice as many, where columns
// are no whole lines), else blocks of the second, of so many vectors at least. Training steps took
// two cores of a Zen 4, in ms, with 400 KiB for both, with 200 and 100, 200 and 80, 200 and 60, for
// 3x3 on 16 of 19x19x2304 13.0, 10.8, 10.3 and 10.3, on 4 of 38x38x960 4.9, 3.9, 3.9 and 3.9, on 32
// of 8x8x1920 3.4, 3.1, 3.1 and 3.0, on 4 of 150x150x288 21.0, 19.6, 19.3 and 19.7, at stride 2 on
// 8 of 75x75x480 8.0, 8.5, 8.4 and 10.1, for 2x2 on 16 of 66x46x314 12.8, 12.7, 12.8 and 12.5 whole
// and 14.7 in two; on 8 of 264x264x56, whole and in blocks of two vectors, 35.0 and 57.6, at stride
// 2 on 2 of 300x300x192 in blocks of four and of two 20.8 and 22.4.
constexpr int64_t fetched_gradient_bytes = 200 * 1024;
constexpr int64_t fetched_part_bytes = 80 * 1024;
constexpr int64_t least_part_vectors = 4;

// The kernel's gradient stages the input for kernels of at least so many taps: 1.4 times as fast
// for 27x27, but 0.8 times for 3x3 to 7x7.
constexpr int64_t gradient_staged_taps = 144;

// Columns so many bytes apart (or a multiple) fall into a few sets of the first-level cache, and
// may evict each other before they are used again. Those that are staged are a vector further
// apart: two cores of a Zen 4 took for training steps of 3x3 without and with it, in us, on 32 of
// 7x7x1024 1315 and 1170, on 8 of 28x28x256 891 and 838, on 4 of 56x56x256 2157 and 2067, for 7x7
// on 8 of 7x7x1024 729 and 683.
constexpr int64_t evicting_bytes = 1024;
// For the kernel's gradient this begins at twice as many. Two cores of a Zen 4 took for training
// steps of 3x3, input staged and in place, on 28x28x256 116 and 108 us, on 56x56x256 459 and 408,
// on 14x14x512 72 and 72, on 32 of 7x7x1024 1167 and 1329, on 10x10x2304 327 and 394.
constexpr int64_t gradient_evicting_bytes = 2048;

// Where columns are a multiple of the first apart, and results begin after an input read in place
// in a page, but less than the second, tiles go through channels from the last one on. One core of
// a Zen 4 took for 3x3, with results a line after the input, two lines and eight, in us, on
// 14x14x512 36, 27 and 23, and from the last one on 24, 24 and 23; on 28x28x512 143, 111 and 102,
// and 107, 105 and 103; on 56x56x128 94, 89 and 82, and 85, 83 and 83; on 7x7x1024 28, 19 and 18,
// and 18, 18 and 19. With both at one place 28 either way on 14x14x512, and on 80x80x128 165 and
// 177. Rows that are staged, as the gradient's are, gain nothing.
constexpr int64_t aliasing_bytes = 512;
constexpr int64_t following_bytes = 192;

// Kernels of so many taps whose weights are as far apart are copied, a vector further. Two cores of
// a Zen 4 took, in place and copied, in us, for 27x27 on 14x14x512 298 and 261, for 13x13 on 8 of
// 7x7x1024 551 and 270, for 29x29 on 28x28x256 1088 and 1114, for 9x9 on 14x14x512 87 and 96, for
// 7x7 99 and 126.
constexpr int64_t evicting_taps = 144;

// Weights of up to so many taps are copied, too, where those of a column begin less than the first
// in a page before or after its elements, and there are so many results for each tap. One core of a
// Zen 1 took in place, with weights at the same place in a page, half a line after it, a line, and
// 256 bytes, in us, for 3x3 on 14x14x512 163, 96, 89 and 96, on 28x28x256 182, 155, 144 and 142, on
// 7x7x1024 95, 73, 61 and 59, on 14x14x2048 839, 728, 608 and 567, for 5x5 on 14x14x512 179, 165,
// 162 and 160; for 3x3 on 28x28x128 and 14x14x768, and 7x7 on 14x14x512, as long at all places.
// Copied, 3x3 took at the first one 98 on 14x14x512, 56 on 7x7x1024 and 561 on 14x14x2048.
constexpr int64_t meeting_bytes = 64;
constexpr int64_t most_meeting_taps = 25;
constexpr int64_t least_tap_results = 4;

// Where one image's block of channels is one task, that task copies its own, up to so many bytes:
// 13x13 on 7x7x1024 took 60 us copied by all threads first and 44 like this, 27x27 on 14x14x768 336
// and 314, on 14x14x512 259 and 248.
constexpr int64_t copied_weights_bytes = 480 * 1024;

// Outputs that a kernel's gradient goes over between loading and storing its sums, at least: of so
// many rows. Two cores of a Zen 4 took for training steps with 1 row and with 4, in us, for 5x5 on
// 28x28x240 186 and 176, 7x7 on 56x56x96 482 and 464, 9x9 on 28x28x128 298 and 278, 3x3 on
// 112x112x32 173 and 167; with 8 level.
constexpr int64_t gradient_outputs = 28;
constexpr int64_t gradient_rows = 4;

// Kernel gradients are summed in this many parts at most, whatever the number of threads: the
// partition fixes the bits. A part has so many rows and outputs at least.
constexpr int64_t gradient_parts = 32;
constexpr int64_t gradient_part_rows = 7;
constexpr int64_t gradient_part_outputs = 96;
// Channels are divided where parts are fewer than this, which shortens runs of memory. Two cores of
// a Zen 4 took for training steps with all in eight blocks wherever there were less than 256 rows
// in all, in parts of 8, and like this, in us, for 3x3 on 56x56x128 193 and 181, on 14x14x512 72
// and 68, on 10x10x2304 147 and 131, 5x5 at stride 2 on 17x17x720 103 and 90; with 2 instead of 8,
// the last two 171 and 126, 5x5 on 7x7x960 67 and 79.
constexpr int64_t least_gradient_tasks = 8;
// Parts that follow each other are one task: of `tasks`, so many go together. 3x3 on 56x56x128 took
// 181 us with 1 and 175 with 2, on 112x112x32 169 and 166.
constexpr int64_t tasks_together = 2;
// Where the sums of as many parts would take more memory than this, channels are divided instead.
constexpr int64_t gradient_parts_bytes = 4 * 1024 * 1024;
// Memory for sums of parts that one thread adds to a call's, in rounds where there are more; there
// is one part where it would have more.
constexpr int64_t gradient_round_bytes = 512 * 1024;

// Both gradients go in one pass if the rows of the output's gradient that a row of the input's
// needs beside its own are no more than this: within each part some of them are staged twice. One
// core of a Zen 5, in one pass and in two: 3x3 on 56x56x128 207 and 236 us, on 14x14x512 58 and 68,
// 5x5 on 7x7x960 46 and 57; 7x7 on 56x56x96 (6 rows) 385 and 378.
constexpr int64_t most_shared_halo_rows = 6;

}  // namespace depthwise::tuning

#endif  // DEPTHWISE_KERNELS_TUNING_H_
