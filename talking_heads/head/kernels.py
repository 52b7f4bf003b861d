"""Loops over triangles and pixels, compiled. Points are in pixels (x, y, depth); larger depth is nearer."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np

from .compiling import compiled

BEHIND = np.float32(1.5)
"""cm: the hair layer lies on the head where the photo shows both."""
FAR = np.float32(-1e30)
SKIN, TEETH, INSIDE, EYE, LID_EDGE = 0, 1, 2, 3, 4
"""What a triangle is part of, for ``mend_teeth_and_edges``."""
BETWEEN_TEETH = np.float32(0.72)
"""Light between two teeth, over that on them."""
LAYER_STEP, FACE_LAYER = np.float32(0.6), np.float32(0.4)
"""Of the plane that is -1 on the background, 0 on hair and 1 on a face: between neighbours one of which lies before the
other, and from which on it is a face."""


@compiled
def rasterise(points, triangles, top, bottom, nearest, depth):
    """Draws rows ``top`` to ``bottom`` of int32 ``nearest`` (H, W), the row of the nearest triangle or -1, and of
    float32 ``depth`` (H, W). Both sides of a triangle are drawn: sockets and mouth are seen from inside."""
    width = nearest.shape[1]
    for i in range(top, bottom):
        for j in range(width):
            nearest[i, j] = -1
            depth[i, j] = FAR
    for f in range(triangles.shape[0]):
        a, b, c = triangles[f, 0], triangles[f, 1], triangles[f, 2]
        ax, ay, az = points[a, 0], points[a, 1], points[a, 2]
        bx, by, bz = points[b, 0], points[b, 1], points[b, 2]
        cx, cy, cz = points[c, 0], points[c, 1], points[c, 2]
        first = max(top, int(np.ceil(min(ay, by, cy) - np.float32(0.5))))
        last = min(bottom - 1, int(np.floor(max(ay, by, cy) - np.float32(0.5))))
        if first > last:
            continue
        left = max(0, int(np.ceil(min(ax, bx, cx) - np.float32(0.5))))
        right = min(width - 1, int(np.floor(max(ax, bx, cx) - np.float32(0.5))))
        if left > right:
            continue
        area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
        if not abs(area) > np.float32(1e-9):  # degenerate, or not a number
            continue
        inverse = np.float32(1) / area
        du, dv = (by - cy) * inverse, (cy - ay) * inverse
        dz = du * (az - cz) + dv * (bz - cz)
        for i in range(first, last + 1):
            px, py = left + np.float32(0.5), i + np.float32(0.5)
            u = ((bx - px) * (cy - py) - (cx - px) * (by - py)) * inverse
            v = ((cx - px) * (ay - py) - (ax - px) * (cy - py)) * inverse
            z = cz + u * (az - cz) + v * (bz - cz)
            for j in range(left, right + 1):
                # The small slack closes hairline cracks between neighbours.
                if u > np.float32(-1e-4) and v > np.float32(-1e-4) and u + v < np.float32(1.0001) and z > depth[i, j]:
                    depth[i, j] = z
                    nearest[i, j] = f
                u += du
                v += dv
                z += dz


@compiled
def _barycentric(points, a, b, c, px, py):
    ax, ay = points[a, 0], points[a, 1]
    bx, by = points[b, 0], points[b, 1]
    cx, cy = points[c, 0], points[c, 1]
    inverse = np.float32(1) / ((bx - ax) * (cy - ay) - (cx - ax) * (by - ay))
    u = ((bx - px) * (cy - py) - (cx - px) * (by - py)) * inverse
    v = ((cx - px) * (ay - py) - (ax - px) * (cy - py)) * inverse
    return u, v, np.float32(1) - u - v


@compiled
def interpolate(points, triangles, nearest, values):
    """Values (V, C) of vertices -> float32 (H, W, C) at the pixels of ``nearest``; 0 where nothing is drawn."""
    height, width = nearest.shape
    out = np.zeros((height, width, values.shape[1]), np.float32)
    for i in range(height):
        for j in range(width):
            f = nearest[i, j]
            if f >= 0:
                a, b, c = triangles[f, 0], triangles[f, 1], triangles[f, 2]
                u, v, w = _barycentric(points, a, b, c, j + np.float32(0.5), i + np.float32(0.5))
                for k in range(values.shape[1]):
                    out[i, j, k] = u * values[a, k] + v * values[b, k] + w * values[c, k]
    return out


@compiled
def vertex_normals(vertices, triangles):
    """(V, 3), (F, 3) -> unit normals (V, 3), weighted by triangle area; zero for vertices of no triangle."""
    normals = np.zeros_like(vertices)
    for f in range(triangles.shape[0]):
        a, b, c = triangles[f, 0], triangles[f, 1], triangles[f, 2]
        ux, uy, uz = vertices[b, 0] - vertices[a, 0], vertices[b, 1] - vertices[a, 1], vertices[b, 2] - vertices[a, 2]
        vx, vy, vz = vertices[c, 0] - vertices[a, 0], vertices[c, 1] - vertices[a, 1], vertices[c, 2] - vertices[a, 2]
        x, y, z = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for k in range(3):
            vertex = triangles[f, k]
            normals[vertex, 0] += x
            normals[vertex, 1] += y
            normals[vertex, 2] += z
    for vertex in range(vertices.shape[0]):
        length = np.sqrt(normals[vertex, 0] ** 2 + normals[vertex, 1] ** 2 + normals[vertex, 2] ** 2)
        if length > 0:
            for k in range(3):
                normals[vertex, k] /= length
    return normals


@compiled
def stretch(points, texture_at, triangles):
    """Points (P, >= 2) now and their places in the photo (P, 2), both in pixels -> (P,): pixels that one pixel of the
    photo has to fill. Where they are many there are streaks, or a bridge from a chin to a neck."""
    now = np.zeros(points.shape[0], np.float32)
    before = np.full(points.shape[0], 1e-3, np.float32)
    for f in range(triangles.shape[0]):
        a, b, c = triangles[f, 0], triangles[f, 1], triangles[f, 2]
        area = abs(
            (points[b, 0] - points[a, 0]) * (points[c, 1] - points[a, 1])
            - (points[c, 0] - points[a, 0]) * (points[b, 1] - points[a, 1])
        )
        earlier = abs(
            (texture_at[b, 0] - texture_at[a, 0]) * (texture_at[c, 1] - texture_at[a, 1])
            - (texture_at[c, 0] - texture_at[a, 0]) * (texture_at[b, 1] - texture_at[a, 1])
        )
        for k in range(3):
            now[triangles[f, k]] += area
            before[triangles[f, k]] += earlier
    return now / before


@compiled
def sample(image, at):
    """Image (H, W, C) float32 at points (N, 2) in pixels (centres at +0.5) -> (N, C), bilinear; edges go on."""
    height, width, channels = image.shape
    out = np.empty((at.shape[0], channels), np.float32)
    for n in range(at.shape[0]):
        x = min(max(at[n, 0] - np.float32(0.5), np.float32(0)), np.float32(width - 1))
        y = min(max(at[n, 1] - np.float32(0.5), np.float32(0)), np.float32(height - 1))
        j, i = min(int(x), width - 2), min(int(y), height - 2)
        u, v = x - j, y - i
        for c in range(channels):
            above = image[i, j, c] * (1 - u) + image[i, j + 1, c] * u
            below = image[i + 1, j, c] * (1 - u) + image[i + 1, j + 1, c] * u
            out[n, c] = above * (1 - v) + below * v
    return out


@compiled
def _texel(images, k, x, y):
    """uint8 RGBA images (K, H, W, 4) at a place in pixels -> red, green, blue and alpha in 0..255, bilinear."""
    height, width = images.shape[1], images.shape[2]
    x = min(max(x - np.float32(0.5), np.float32(0)), np.float32(width - 1.001))
    y = min(max(y - np.float32(0.5), np.float32(0)), np.float32(height - 1.001))
    j, i = int(x), int(y)
    u, v = x - np.float32(j), y - np.float32(i)
    p, q = (np.float32(1) - u) * (np.float32(1) - v), u * (np.float32(1) - v)
    r, s = (np.float32(1) - u) * v, u * v
    one, two, three, four = images[k, i, j], images[k, i, j + 1], images[k, i + 1, j], images[k, i + 1, j + 1]
    return (
        p * one[0] + q * two[0] + r * three[0] + s * four[0],
        p * one[1] + q * two[1] + r * three[1] + s * four[1],
        p * one[2] + q * two[2] + r * three[2] + s * four[2],
        p * one[3] + q * two[3] + r * three[3] + s * four[3],
    )


@compiled
def _pixel(image, x, y):
    """float32 image (H, W, 3) at a place in pixels -> red, green and blue, bilinear."""
    x = min(max(x - np.float32(0.5), np.float32(0)), np.float32(image.shape[1] - 1.001))
    y = min(max(y - np.float32(0.5), np.float32(0)), np.float32(image.shape[0] - 1.001))
    j, i = int(x), int(y)
    u, v = x - np.float32(j), y - np.float32(i)
    p, q = (np.float32(1) - u) * (np.float32(1) - v), u * (np.float32(1) - v)
    r, s = (np.float32(1) - u) * v, u * v
    one, two, three, four = image[i, j], image[i, j + 1], image[i + 1, j], image[i + 1, j + 1]
    return (
        p * one[0] + q * two[0] + r * three[0] + s * four[0],
        p * one[1] + q * two[1] + r * three[1] + s * four[1],
        p * one[2] + q * two[2] + r * three[2] + s * four[2],
    )


@compiled
def compose(
    top, bottom, origin, background, own_background, photo, textures,
    head_points, head_triangles, head_nearest, head_depth, head_values, slots,
    hair_points, hair_triangles, hair_nearest, hair_depth, hair_values,
    frame, planes,
):  # fmt: skip
    """Rows ``top`` to ``bottom`` of ``frame`` (H, W, 3) in 0..255 and of ``planes`` (H, W, 4): trust, layer, stillness
    and the person's opacity.

    From back to front: the background; the head in its fill colour and textures; the hair layer, which is the photo's
    hair and shoulders; the face again, by trust; the untouched photo where nothing has moved.

    ``head_values`` (V, 4 + 3S): columns 0 to 2 are the fill colour, 3 says whether the photo shows the vertex; then for
    each of the ``slots`` (S,) of ``textures`` x and y in it, and its weight. Slot 0 is the photo that the hair layer is
    of. ``hair_values`` (P, 5): x, y, trust, how far the photo's own background moves along, and opacity before the
    head. Places are in pixels of the texture, which begins ``origin`` pixels left of and above the frame. With another
    background (``own_background`` False) pixels that are half the old background's are never still.
    """
    width = frame.shape[1]
    half, one, zero = np.float32(0.5), np.float32(1), np.float32(0)
    for i in range(top, bottom):
        for j in range(width):
            px, py = j + half, i + half
            red, green, blue = background[i, j, 0], background[i, j, 1], background[i, j, 2]
            layer, opacity, still, trust = -one, zero, one, zero
            face_red, face_green, face_blue, head_still = zero, zero, zero, zero
            front, behind = head_depth[i, j], hair_depth[i, j]
            f, g = head_nearest[i, j], hair_nearest[i, j]
            if f >= 0:
                a, b, c = head_triangles[f, 0], head_triangles[f, 1], head_triangles[f, 2]
                u, v, w = _barycentric(head_points, a, b, c, px, py)
                face_red = u * head_values[a, 0] + v * head_values[b, 0] + w * head_values[c, 0]
                face_green = u * head_values[a, 1] + v * head_values[b, 1] + w * head_values[c, 1]
                face_blue = u * head_values[a, 2] + v * head_values[b, 2] + w * head_values[c, 2]
                shown = u * head_values[a, 3] + v * head_values[b, 3] + w * head_values[c, 3]
                for k in range(slots.shape[0] - 1, -1, -1):
                    m = 4 + 3 * k
                    share = u * head_values[a, m + 2] + v * head_values[b, m + 2] + w * head_values[c, m + 2]
                    if share > np.float32(0.004) or k == 0:
                        x = u * head_values[a, m] + v * head_values[b, m] + w * head_values[c, m]
                        y = u * head_values[a, m + 1] + v * head_values[b, m + 1] + w * head_values[c, m + 1]
                        r, s, t, _ = _texel(textures, slots[k], x, y)
                        share = min(max(share, zero), one)
                        face_red += share * (r - face_red)
                        face_green += share * (s - face_green)
                        face_blue += share * (t - face_blue)
                        trust = share + (one - share) * trust
                        if k == 0:
                            moved = (x - origin - px) ** 2 + (y - origin - py) ** 2
                            head_still = min(shown, one) * max(zero, one - moved)
                red, green, blue = face_red, face_green, face_blue
                layer, opacity, still = one, one, head_still
            if g >= 0 and not (f >= 0 and front > behind + BEHIND):
                a, b, c = hair_triangles[g, 0], hair_triangles[g, 1], hair_triangles[g, 2]
                u, v, w = _barycentric(hair_points, a, b, c, px, py)
                x = u * hair_values[a, 0] + v * hair_values[b, 0] + w * hair_values[c, 0]
                y = u * hair_values[a, 1] + v * hair_values[b, 1] + w * hair_values[c, 1]
                rim = u * hair_values[a, 3] + v * hair_values[b, 3] + w * hair_values[c, 3]
                if rim > zero and f < 0:
                    r, s, t = _pixel(photo, x - origin, y - origin)
                    red += rim * (r - red)
                    green += rim * (s - green)
                    blue += rim * (t - blue)
                r, s, t, alpha = _texel(textures, slots[0], x, y)
                alpha *= np.float32(1 / 255)
                alpha *= u * hair_values[a, 2] + v * hair_values[b, 2] + w * hair_values[c, 2]
                if f >= 0:
                    alpha *= u * hair_values[a, 4] + v * hair_values[b, 4] + w * hair_values[c, 4]
                red += alpha * (r - red)
                green += alpha * (s - green)
                blue += alpha * (t - blue)
                hair_still = max(zero, one - (x - origin - px) ** 2 - (y - origin - py) ** 2)
                if f < 0:
                    layer, opacity, still = alpha - one, alpha, hair_still
                    if not own_background and alpha < np.float32(0.98):
                        still = zero
                else:
                    layer = one - alpha
                    still += alpha * (hair_still - still)
            if f >= 0 and (g < 0 or front > behind - BEHIND):
                red += trust * (face_red - red)
                green += trust * (face_green - green)
                blue += trust * (face_blue - blue)
                layer += trust * (one - layer)
                still += trust * (head_still - still)
            if f >= 0 or g >= 0:  # elsewhere is the background, and in the photo perhaps the person
                red += still * (photo[i, j, 0] - red)
                green += still * (photo[i, j, 1] - green)
                blue += still * (photo[i, j, 2] - blue)
            frame[i, j, 0], frame[i, j, 1], frame[i, j, 2] = red, green, blue
            planes[i, j, 0] = trust
            planes[i, j, 1] = layer
            planes[i, j, 2] = still
            planes[i, j, 3] = opacity


@compiled
def _open_to_change(planes, y, x):
    """1 where the head is seen and has moved, 0 where nothing has, or hair lies before it."""
    return (np.float32(1) - planes[y, x, 2]) * min(max(planes[y, x, 1], np.float32(0)), np.float32(1))


@compiled
def _close_gaps(frame, planes, kind, top, left, gap):
    """Between two teeth of a row of ``kind`` (h, w), whose corner is at ``top`` and ``left``, is tooth as well."""
    for i in range(kind.shape[0]):
        y, last = top + i, -1  # tooth so far
        for j in range(kind.shape[1]):
            if kind[i, j] == SKIN:
                last = -1
            if kind[i, j] != TEETH:
                continue
            if last >= 0 and 1 < j - last <= gap + 1:
                for k in range(last + 1, j):
                    kind[i, k] = TEETH
                    share = _open_to_change(planes, y, left + k)
                    t = np.float32(k - last) / np.float32(j - last)
                    for c in range(3):
                        tooth = (np.float32(1) - t) * frame[y, left + last, c] + t * frame[y, left + j, c]
                        frame[y, left + k, c] += share * (BETWEEN_TEETH * tooth - frame[y, left + k, c])
            last = j


@compiled
def _blurred(frame, i, j, c):
    """Channel ``c`` of a pixel (i, j) inside of ``frame`` (H, W, 3), blurred by the weights 1, 2, 1 along both axes."""
    near = frame[i - 1, j, c] + frame[i + 1, j, c] + frame[i, j - 1, c] + frame[i, j + 1, c]
    above = frame[i - 1, j - 1, c] + frame[i - 1, j + 1, c]
    far = above + frame[i + 1, j - 1, c] + frame[i + 1, j + 1, c]
    return np.float32(0.25) * frame[i, j, c] + np.float32(0.125) * near + np.float32(0.0625) * far


@compiled
def _soften(frame, planes, kind, top, left):
    """Where ``kind`` changes, pixels take their neighbours' colours, by the weights 1, 2, 1 along both axes."""
    height, width = kind.shape
    source = frame[top : top + height, left : left + width].copy()
    for i in range(1, height - 1):
        for j in range(1, width - 1):
            edge = False
            for di in range(-1, 2):
                for dj in range(-1, 2):
                    edge |= kind[i + di, j + dj] != kind[i, j]
            if not edge:
                continue
            y, x = top + i, left + j
            share = _open_to_change(planes, y, x)
            for c in range(3):
                frame[y, x, c] += share * (_blurred(source, i, j, c) - frame[y, x, c])


@compiled
def mend_teeth_and_edges(frame, planes, nearest, layer, kept, box, gap):
    """Closes gaps between teeth that are at most ``gap`` pixels wide, and softens the outlines of teeth, mouth and
    eyes: a pixel belongs to one triangle, so they have steps.

    ``frame`` (H, W, 3) and ``planes`` (H, W, 4) as of ``compose``; ``layer`` (F,): SKIN, TEETH, INSIDE, EYE or
    LID_EDGE of each triangle; ``kept`` (F,): how still its pixels are at least; ``box`` (4,): top, bottom, left and
    right of where to look. What has not moved, or is behind hair, stays.
    """
    height, width = nearest.shape
    top, bottom = max(int(box[0]), 1) - 1, min(int(box[1]), height - 1) + 1
    left, right = max(int(box[2]), 1) - 1, min(int(box[3]), width - 1) + 1
    if bottom - top <= 2 or right - left <= 2:
        return
    kind = np.zeros((bottom - top, right - left), np.int8)
    for i in range(kind.shape[0]):
        for j in range(kind.shape[1]):
            f = nearest[top + i, left + j]
            if f >= 0:
                kind[i, j] = layer[f]
    _close_gaps(frame, planes, kind, top, left, gap)
    _soften(frame, planes, kind, top, left)
    for i in range(1, kind.shape[0] - 1):
        for j in range(1, kind.shape[1] - 1):
            f = nearest[top + i, left + j]
            if f >= 0:
                planes[top + i, left + j, 2] = max(planes[top + i, left + j, 2], kept[f])


@compiled
def soften_outline(frame, planes, top, bottom, out):
    """Rows ``top`` to ``bottom`` of ``out`` (H, W, 3): the frame, with its neighbours' colours by the weights 1, 2, 1
    along both axes where a face meets hair or background in a step and they have moved."""
    height, width = planes.shape[:2]
    for i in range(top, bottom):
        out[i] = frame[i]
        if i == 0 or i == height - 1:
            continue
        for j in range(1, width - 1):
            layer, above, below = planes[i, j, 1], planes[i - 1, j, 1], planes[i + 1, j, 1]
            left, right = planes[i, j - 1, 1], planes[i, j + 1, 1]
            front, behind = max(layer, above, below, left, right), min(layer, above, below, left, right)
            if front - behind < LAYER_STEP or front < FACE_LAYER:
                continue
            for c in range(3):
                out[i, j, c] += (np.float32(1) - planes[i, j, 2]) * (_blurred(frame, i, j, c) - frame[i, j, c])


@compiled
def reduce_planes(picture, photo, planes, factor, top, bottom, out):
    """Rows ``top`` to ``bottom`` of ``out`` (9, h, w): means over ``factor`` x ``factor`` pixels of picture and photo
    (H, W, 3), brought from 0..255 to [-1, 1], and of the first three planes of (H, W, 4).

    A background counts as still: shadows and curls that a network paints around a head swim along with it.
    """
    share = np.float32(1.0 / (factor * factor))
    level, one = share * np.float32(1 / 127.5), np.float32(1)
    for i in range(top, bottom):
        for j in range(out.shape[2]):
            a = b = c = d = e = f = g = h = k = np.float32(0)
            for y in range(i * factor, (i + 1) * factor):
                for x in range(j * factor, (j + 1) * factor):
                    a += picture[y, x, 0]
                    b += picture[y, x, 1]
                    c += picture[y, x, 2]
                    d += photo[y, x, 0]
                    e += photo[y, x, 1]
                    f += photo[y, x, 2]
                    g += planes[y, x, 0]
                    h += planes[y, x, 1]
                    k += max(planes[y, x, 2], one - planes[y, x, 3])
            out[0, i, j], out[1, i, j], out[2, i, j] = a * level - one, b * level - one, c * level - one
            out[3, i, j], out[4, i, j], out[5, i, j] = d * level - one, e * level - one, f * level - one
            out[6, i, j], out[7, i, j], out[8, i, j] = g * share, h * share, k * share
