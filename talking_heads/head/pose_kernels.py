"""Loops over the vertices of a head that is posed, and over the landmarks that a pose is fitted to, compiled."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np

from .compiling import compiled


@compiled
def pose_head(
    rest, shapes, used, weights, spread, detail, eye, eye_centres, eye_turns, before, after, fade, joint, body_place,
    place, scale, centre_x, centre_y, distance, points, moved,
):  # fmt: skip
    """Poses a head: ``points`` (V, 3) in pixels and depth, and ``moved`` (V, 3) cm, by how much expression and detail
    move each vertex in the model's axes.

    ``rest`` (V, 3) + sum of ``weights`` times ``shapes`` (E, V, 3) for the ``used`` + ``spread`` (V, D) of ``detail``
    (D, 3); eyeballs (``eye`` (V,): 0 or 1, else -1) are turned by ``eye_turns`` (2, 3, 3) about ``eye_centres`` (2, 3);
    then the head about the ``joint``, and moved: by ``before`` (3, 3) and ``body_place`` (3,) where ``fade`` (V, 1) is
    0, and by ``after`` and ``place`` where it is 1.
    ``scale`` and centre are in pixels.
    """
    one = np.float32(1)
    for v in range(rest.shape[0]):
        x = y = z = np.float32(0)
        for n in range(used.shape[0]):
            x += weights[n] * shapes[used[n], v, 0]
            y += weights[n] * shapes[used[n], v, 1]
            z += weights[n] * shapes[used[n], v, 2]
        for d in range(detail.shape[0]):
            x += spread[v, d] * detail[d, 0]
            y += spread[v, d] * detail[d, 1]
            z += spread[v, d] * detail[d, 2]
        moved[v, 0], moved[v, 1], moved[v, 2] = x, y, z
        x += rest[v, 0]
        y += rest[v, 1]
        z += rest[v, 2]
        k = eye[v]
        if k >= 0:
            x, y, z = x - eye_centres[k, 0], y - eye_centres[k, 1], z - eye_centres[k, 2]
            t = eye_turns[k]
            x, y, z = (
                t[0, 0] * x + t[0, 1] * y + t[0, 2] * z + eye_centres[k, 0],
                t[1, 0] * x + t[1, 1] * y + t[1, 2] * z + eye_centres[k, 1],
                t[2, 0] * x + t[2, 1] * y + t[2, 2] * z + eye_centres[k, 2],
            )
        x, y, z = x - joint[0], y - joint[1], z - joint[2]
        f, g = fade[v, 0], one - fade[v, 0]
        p = (g * before[0, 0] + f * after[0, 0]) * x + (g * before[0, 1] + f * after[0, 1]) * y
        p += (g * before[0, 2] + f * after[0, 2]) * z + g * body_place[0] + f * place[0]
        q = (g * before[1, 0] + f * after[1, 0]) * x + (g * before[1, 1] + f * after[1, 1]) * y
        q += (g * before[1, 2] + f * after[1, 2]) * z + g * body_place[1] + f * place[1]
        r = (g * before[2, 0] + f * after[2, 0]) * x + (g * before[2, 1] + f * after[2, 1]) * y
        r += (g * before[2, 2] + f * after[2, 2]) * z + g * body_place[2] + f * place[2]
        zoom = scale / (one - r / distance)
        points[v, 0], points[v, 1], points[v, 2] = centre_x + zoom * p, centre_y - zoom * q, r


@compiled
def pose_hair_layer(
    arms, anchors, anchor_weights, moved, before, turn, fade, body_place, place, scale, centre_x, centre_y, distance,
    points,
):  # fmt: skip
    """Poses a hair layer: ``points`` (P, 3) in pixels and depth.

    Its ``arms`` (P, 3) cm from the neck's joint in the photo's pose are dragged by what ``moved`` (V, 3) does to their
    ``anchors`` (P, 3), turned by ``turn`` (3, 3) and moved to ``place`` (3,) as far as ``fade`` (P, 1) says, else to
    ``body_place`` (3,).
    """
    one = np.float32(1)
    for v in range(arms.shape[0]):
        a = b = c = np.float32(0)
        for k in range(3):
            w = anchor_weights[v, k]
            if w > 0:
                n = anchors[v, k]
                a += w * moved[n, 0]
                b += w * moved[n, 1]
                c += w * moved[n, 2]
        x = arms[v, 0] + before[0, 0] * a + before[0, 1] * b + before[0, 2] * c
        y = arms[v, 1] + before[1, 0] * a + before[1, 1] * b + before[1, 2] * c
        z = arms[v, 2] + before[2, 0] * a + before[2, 1] * b + before[2, 2] * c
        f, g = fade[v, 0], one - fade[v, 0]
        p = g * (x + body_place[0]) + f * (turn[0, 0] * x + turn[0, 1] * y + turn[0, 2] * z + place[0])
        q = g * (y + body_place[1]) + f * (turn[1, 0] * x + turn[1, 1] * y + turn[1, 2] * z + place[1])
        r = g * (z + body_place[2]) + f * (turn[2, 0] * x + turn[2, 1] * y + turn[2, 2] * z + place[2])
        zoom = scale / (one - r / distance)
        points[v, 0], points[v, 1], points[v, 2] = centre_x + zoom * p, centre_y - zoom * q, r


@compiled
def normal_equations(
    neutral, shapes, expression, rotation, joint, translation, scale, centre, distance, points, weight, free,
    normal, pull, missing, turned,
):  # fmt: skip
    """One step of a frame's fit, in float64: fills ``normal`` (6 + F, 6 + F) and ``pull`` (6 + F,) of the weighted
    least squares in turn (3), translation (3) and the ``free`` (F,) expressions, ``missing`` (L, 2) and ``turned``
    (L, 3).

    ``neutral`` (L, 3), ``shapes`` (L, E, 3) and ``points`` (L, 2); for the rest see ``fit.FrameFitter``.
    """
    size = 6 + free.shape[0]
    normal[:], pull[:] = 0.0, 0.0
    row_x, row_y = np.empty(size), np.empty(size)
    for n in range(neutral.shape[0]):
        ax, ay, az = neutral[n, 0] - joint[0], neutral[n, 1] - joint[1], neutral[n, 2] - joint[2]
        for e in range(expression.shape[0]):
            if expression[e] != 0:
                ax += expression[e] * shapes[n, e, 0]
                ay += expression[e] * shapes[n, e, 1]
                az += expression[e] * shapes[n, e, 2]
        x = rotation[0, 0] * ax + rotation[0, 1] * ay + rotation[0, 2] * az
        y = rotation[1, 0] * ax + rotation[1, 1] * ay + rotation[1, 2] * az
        z = rotation[2, 0] * ax + rotation[2, 1] * ay + rotation[2, 2] * az
        px, py, pz = x + joint[0] + translation[0], y + joint[1] + translation[1], z + joint[2] + translation[2]
        turned[n, 0], turned[n, 1], turned[n, 2] = px, py, pz
        nearness = 1 / (1 - pz / distance)
        zoom = scale * nearness
        by_x, by_y = zoom * nearness / distance * px, -zoom * nearness / distance * py  # by depth
        missing[n, 0] = points[n, 0] - centre[0] - zoom * px
        missing[n, 1] = points[n, 1] - centre[1] + zoom * py
        w = weight[n]
        if w == 0:
            continue
        # By a turn w: w x arm is (wy z - wz y, wz x - wx z, wx y - wy x).
        row_x[0], row_x[1], row_x[2] = by_x * y, zoom * z - by_x * x, -zoom * y
        row_y[0], row_y[1], row_y[2] = zoom * z + by_y * y, -by_y * x, -zoom * x
        row_x[3], row_x[4], row_x[5] = zoom, 0.0, by_x
        row_y[3], row_y[4], row_y[5] = 0.0, -zoom, by_y
        for k in range(free.shape[0]):
            sx, sy, sz = shapes[n, free[k], 0], shapes[n, free[k], 1], shapes[n, free[k], 2]
            dx = rotation[0, 0] * sx + rotation[0, 1] * sy + rotation[0, 2] * sz
            dy = rotation[1, 0] * sx + rotation[1, 1] * sy + rotation[1, 2] * sz
            dz = rotation[2, 0] * sx + rotation[2, 1] * sy + rotation[2, 2] * sz
            row_x[6 + k] = zoom * dx + by_x * dz
            row_y[6 + k] = -zoom * dy + by_y * dz
        for i in range(size):
            p, q = w * w * row_x[i], w * w * row_y[i]
            pull[i] += p * missing[n, 0] + q * missing[n, 1]
            for j in range(i + 1):
                normal[i, j] += p * row_x[j] + q * row_y[j]
    for i in range(size):
        for j in range(i + 1, size):
            normal[i, j] = normal[j, i]
