/* Views of pictures that are neither turned nor sheared: one resample, one colour matrix, one rounding, an image at a time.

   The definitions are those of geometry.py (a triangle of half-width max(1, shrink), cut at the picture's edge and
   normalised: Pillow's BILINEAR) and of colour.py; upright.py says how it is called and holds it to them. Filters are worked
   out in double, sums are float. An image's view depends on nothing but the image. It takes one branch for each thing that a
   picture can be, and no shortcuts for flips or whole pictures: a view is 20 to 50 us.

   Only the vectors of four floats are more than C11; gcc and clang have them on every processor. */

#include <float.h>
#include <math.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef float Quad __attribute__((vector_size(16))); /* red, green, blue, and whatever comes after them */

typedef struct {
    const uint8_t *pixels;   /* (count, side, side, 3) */
    const int32_t *extents;  /* (count, 2) height and width */
    const double *matrices;  /* (count, 2, 3) output square to stored pixels, 0 off the diagonal */
    const double *colours;   /* (count, 3, 5) */
    void *views;             /* (count, size, size, 3) float, or uint16: the upper half of one */
    int64_t count, side, size;
    int32_t rounded;         /* whether views are bfloat16 */
    int32_t painted;         /* whether `fill` is what lies outside; otherwise its mirror image */
    double fill[3], luma[3]; /* colour in [0, 255]; weights of the brightness */
    float lowest[3], highest[3];
    _Atomic int64_t next;    /* the image that the next free thread takes */
    _Atomic int32_t failed;  /* whether a thread found no memory */
} Batch;

typedef struct {          /* one direction */
    int taps, low, high;  /* pixels an output touches at most; all that any output touches: [low, high) */
    int *first;           /* (size,) */
    float *weights;       /* (size, taps) */
    char *outside;        /* (size,) */
    float *share;         /* (side,) what each stored pixel adds to the sum over the outputs inside of the picture */
} Filter;

typedef struct {
    Filter down, across;
    float *row, *sum;        /* (3 side + 4,) */
    float *line;             /* (3 size + 4,) */
    float *lowest, *highest; /* (3 size,) */
} Scratch;

/* ---- filters ----------------------------------------------------------------------------------------------------- */

static inline double least(double a, double b) /* fmin and fmax are calls, for the sake of NaNs */
{
    return a < b ? a : b;
}

static inline double most(double a, double b)
{
    return a > b ? a : b;
}

/* A triangle about each output's place, over the `extent` stored pixels there are. */
static void make_filter(Filter *filter, double factor, double offset, int64_t size, int64_t side, int64_t extent, int painted)
{
    double reach = most(fabs(factor) * 2 / size, 1), slope = 1 / reach;
    int taps = filter->taps = (int)least(ceil(2 * reach), (double)extent);
    filter->low = (int)extent;
    filter->high = 0;
    memset(filter->share, 0, side * sizeof(float));
    for (int64_t i = 0; i < size; i++) {
        volatile double product = factor * ((double)(2 * i + 1) / size - 1); /* rounded before the sum, as in numpy */
        double x = product + offset;
        char outside = filter->outside[i] = x < 0 || x > extent;
        if (outside) { /* mirrored at both edges again and again */
            double periods = x / (2.0 * extent);
            x = 2.0 * extent * fabs(periods - rint(periods));
        }
        double start = ceil(x - reach - 0.5), total = 0;
        int first = filter->first[i] = start > 0 ? (int)least(start, (double)(extent - taps)) : 0;
        float *weights = filter->weights + i * taps;
        double exact[taps];
        for (int k = 0; k < taps; k++)
            total += exact[k] = most(1 - fabs(first + k + 0.5 - x) * slope, 0);
        double whole = 1 / total;
        for (int k = 0; k < taps; k++) {
            weights[k] = (float)(exact[k] * whole);
            if (!(painted && outside))
                filter->share[first + k] += weights[k];
        }
        filter->low = first < filter->low ? first : filter->low;
        filter->high = first + taps > filter->high ? first + taps : filter->high;
    }
}

/* ---- down and across --------------------------------------------------------------------------------------------- */

/* Pixels [low, high) of `taps` rows, weighed and added up. */
static inline void add_rows(float *restrict out, const uint8_t *restrict in, const float *weights, int taps, int64_t stride, int low, int high)
{
    for (int i = 3 * low; i < 3 * high; i++) {
        float sum = weights[0] * in[i];
        for (int k = 1; k < taps; k++)
            sum += weights[k] * in[i + k * stride];
        out[i] = sum;
    }
}

static void filter_down(float *restrict out, const uint8_t *picture, const Filter *down, int64_t y, int64_t side, int low, int high)
{
    const float *weights = down->weights + y * down->taps;
    const uint8_t *in = picture + down->first[y] * side * 3;
    int64_t stride = side * 3;
    switch (down->taps) { /* the loop over so few is unrolled */
    case 1: add_rows(out, in, weights, 1, stride, low, high); return;
    case 2: add_rows(out, in, weights, 2, stride, low, high); return;
    case 3: add_rows(out, in, weights, 3, stride, low, high); return;
    case 4: add_rows(out, in, weights, 4, stride, low, high); return;
    }
    add_rows(out, in, weights, 4, stride, low, high);
    for (int k = 4; k < down->taps; k++) {
        float weight = weights[k];
        const uint8_t *restrict more = in + k * stride;
        for (int i = 3 * low; i < 3 * high; i++)
            out[i] += weight * more[i];
    }
}

/* A line of the view: filtered across and coloured. The fourth value of each quad is overwritten by the next. */
static inline void mix_line(float *restrict out, const float *restrict row, const Filter *across, int taps, int64_t size, const Quad m[4])
{
    const float *weights = across->weights;
    for (int64_t x = 0; x < size; x++, weights += taps) {
        const float *in = row + 3 * across->first[x];
        Quad sum, next;
        memcpy(&sum, in, sizeof sum);
        sum *= weights[0];
        for (int k = 1; k < taps; k++) {
            memcpy(&next, in + 3 * k, sizeof next);
            sum += next * weights[k];
        }
        sum = m[3] + m[0] * sum[0] + m[1] * sum[1] + m[2] * sum[2];
        memcpy(out + 3 * x, &sum, sizeof sum);
    }
}

static void filter_across(float *restrict out, const float *restrict row, const Filter *across, int64_t size, const Quad m[4])
{
    switch (across->taps) {
    case 1: mix_line(out, row, across, 1, size, m); return;
    case 2: mix_line(out, row, across, 2, size, m); return;
    case 3: mix_line(out, row, across, 3, size, m); return;
    case 4: mix_line(out, row, across, 4, size, m); return;
    default: mix_line(out, row, across, across->taps, size, m);
    }
}

/* ---- colours ----------------------------------------------------------------------------------------------------- */

/* Mean brightness of the view, from the stored pixels: what each of them adds to it is the product of its two shares. */
static double mean_brightness(const Batch *batch, const uint8_t *picture, Scratch *s)
{
    const Filter *down = &s->down, *across = &s->across;
    float *restrict sum = s->sum;
    memset(sum, 0, 3 * batch->side * sizeof(float));
    for (int y = down->low; y < down->high; y++) {
        const uint8_t *restrict in = picture + y * batch->side * 3;
        float share = down->share[y];
        for (int i = 3 * across->low; i < 3 * across->high; i++)
            sum[i] += share * in[i];
    }
    double total[3] = {0, 0, 0}, inside_x = 0, inside_y = 0;
    for (int x = across->low; x < across->high; x++)
        for (int c = 0; c < 3; c++)
            total[c] += (double)across->share[x] * sum[3 * x + c];
    for (int64_t i = 0; i < batch->size; i++) {
        inside_x += !across->outside[i];
        inside_y += !down->outside[i];
    }
    double all = (double)batch->size * batch->size, brightness = 0;
    double painted = batch->painted ? all - inside_x * inside_y : 0;
    for (int c = 0; c < 3; c++)
        brightness += batch->luma[c] * (total[c] + painted * batch->fill[c]) / all;
    return brightness;
}

/* What comes out where a colour came in: the columns of the matrix, and what is added. */
static void mix_colours(const double m[3][5], double brightness, const double fill[3], Quad columns[4], float painted[3])
{
    for (int c = 0; c < 3; c++) {
        double shift = m[c][3] * brightness + m[c][4];
        for (int k = 0; k < 3; k++)
            columns[k][c] = (float)m[c][k];
        columns[3][c] = (float)shift;
        painted[c] = (float)(m[c][0] * fill[0] + m[c][1] * fill[1] + m[c][2] * fill[2] + shift);
    }
}

/* ---- one image --------------------------------------------------------------------------------------------------- */

static void paint(float *line, const Filter *across, int whole, int64_t size, const float colour[3])
{
    for (int64_t x = 0; x < size; x++)
        if (whole || across->outside[x])
            memcpy(line + 3 * x, colour, 3 * sizeof(float));
}

static inline float clipped(float value, float lowest, float highest)
{
    value = value < lowest ? lowest : value;
    return value > highest ? highest : value;
}

/* To the nearest bfloat16, halves to even; there are no NaNs. */
static inline uint16_t upper_half(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static void write_rounded(uint16_t *restrict out, const float *restrict line, const Scratch *s, int64_t count)
{
    const float *restrict lowest = s->lowest, *restrict highest = s->highest;
    for (int64_t i = 0; i < count; i++)
        out[i] = upper_half(clipped(line[i], lowest[i], highest[i]));
}

static void write_whole(float *restrict out, const float *restrict line, const Scratch *s, int64_t count)
{
    const float *restrict lowest = s->lowest, *restrict highest = s->highest;
    for (int64_t i = 0; i < count; i++)
        out[i] = clipped(line[i], lowest[i], highest[i]);
}

static int64_t within(int64_t extent, int64_t side)
{
    return extent < 1 ? 1 : extent > side ? side : extent;
}

static void make_view(const Batch *batch, int64_t image, Scratch *s)
{
    int64_t side = batch->side, size = batch->size;
    const uint8_t *picture = batch->pixels + image * side * side * 3;
    const int32_t *extent = batch->extents + image * 2;
    const double *matrix = batch->matrices + image * 6;
    const double (*colours)[5] = (const double (*)[5])(batch->colours + image * 15);
    make_filter(&s->down, matrix[4], matrix[5], size, side, within(extent[0], side), batch->painted);
    make_filter(&s->across, matrix[0], matrix[2], size, side, within(extent[1], side), batch->painted);
    int needs_mean = colours[0][3] != 0 || colours[1][3] != 0 || colours[2][3] != 0;
    Quad columns[4] = {{0}};
    float painted[3];
    mix_colours(colours, needs_mean ? mean_brightness(batch, picture, s) : 0, batch->fill, columns, painted);
    for (int64_t y = 0; y < size; y++) {
        int whole = batch->painted && s->down.outside[y];
        if (!whole) {
            filter_down(s->row, picture, &s->down, y, side, s->across.low, s->across.high);
            filter_across(s->line, s->row, &s->across, size, columns);
        }
        if (batch->painted)
            paint(s->line, &s->across, whole, size, painted);
        int64_t place = (image * size + y) * size * 3;
        if (batch->rounded)
            write_rounded((uint16_t *)batch->views + place, s->line, s, 3 * size);
        else
            write_whole((float *)batch->views + place, s->line, s, 3 * size);
    }
}

/* ---- a thread ---------------------------------------------------------------------------------------------------- */

static void *room(size_t count, size_t bytes, int *missing)
{
    void *place = calloc(count, bytes);
    *missing |= place == NULL;
    return place;
}

static int open_filter(Filter *filter, int64_t size, int64_t side)
{
    int missing = 0;
    filter->first = room(size, sizeof(int), &missing);
    filter->weights = room(size * side, sizeof(float), &missing);
    filter->outside = room(size, 1, &missing);
    filter->share = room(side, sizeof(float), &missing);
    return missing;
}

static void close_filter(Filter *filter)
{
    free(filter->first);
    free(filter->weights);
    free(filter->outside);
    free(filter->share);
}

/* Zeros: what is read beyond the last pixel is a number, and does not count. */
static int open_scratch(Scratch *s, const Batch *batch)
{
    int missing = open_filter(&s->down, batch->size, batch->side) | open_filter(&s->across, batch->size, batch->side);
    s->row = room(3 * batch->side + 4, sizeof(float), &missing);
    s->sum = room(3 * batch->side + 4, sizeof(float), &missing);
    s->line = room(3 * batch->size + 4, sizeof(float), &missing);
    s->lowest = room(3 * batch->size, sizeof(float), &missing);
    s->highest = room(3 * batch->size, sizeof(float), &missing);
    for (int64_t i = 0; i < 3 * batch->size && !missing; i++) {
        s->lowest[i] = batch->lowest[i % 3];
        s->highest[i] = batch->highest[i % 3];
    }
    return missing;
}

static void close_scratch(Scratch *s)
{
    close_filter(&s->down);
    close_filter(&s->across);
    free(s->row);
    free(s->sum);
    free(s->line);
    free(s->lowest);
    free(s->highest);
}

/* What a thread does: the next image, until there are none. */
static void make_views(void *argument)
{
    Batch *batch = argument;
    Scratch scratch = {0};
    if (open_scratch(&scratch, batch))
        atomic_store(&batch->failed, 1);
    else
        for (int64_t image; (image = atomic_fetch_add(&batch->next, 1)) < batch->count;)
            make_view(batch, image, &scratch);
    close_scratch(&scratch);
}

typedef void (*Parallel)(void (*work)(void *), void *argument, unsigned threads, unsigned flags); /* OpenMP's GOMP_parallel */

/* Makes the views of a batch; returns whether there was no memory for it.

   parallel: runs `make_views` in so many threads at once, this one among them; NULL: here alone. */
int sightline_views(Batch *batch, Parallel parallel, int threads)
{
    atomic_store(&batch->next, 0);
    atomic_store(&batch->failed, 0);
    if (parallel && threads > 1)
        parallel(make_views, batch, (unsigned)threads, 0);
    else
        make_views(batch);
    return atomic_load(&batch->failed) && atomic_load(&batch->next) < batch->count;
}
