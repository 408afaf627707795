"""Images -> a matrix of features: a transformer to put in front of scikit-learn's estimators.

    make_pipeline(FeatureExtractor("demo", layer="fc8"), LogisticRegression()).fit(images, labels)

It follows scikit-learn's conventions without needing scikit-learn: it can be cloned, searched over
and pickled (the model itself is loaded again where it is needed). Rows are NumPy arrays always:
there is no `set_output`.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from overfeat.features import FeatureConfig, Pool
from overfeat.geometry import Stride
from overfeat.loading import load
from overfeat.member import Dtype, plan_views
from overfeat.predict_config import PredictConfig
from overfeat.predictor import Batch, Images, Predictor
from overfeat.scales import Canvas


class FeatureExtractor:
    """Computes one feature vector per image; it has nothing to learn."""

    def __init__(
        self,
        weights: str | Path = "demo",
        *,
        layer: str | int | None = None,
        pool: Pool = "mean",
        scale: str | None = None,
        stride: Stride = "coarse",
        batch_size: int = 32,
        device: str | None = None,
        dtype: Dtype = "float32",
    ) -> None:
        """Keep the settings; the model is loaded when it is first needed.

        Args:
            weights: `demo` or a checkpoint's folder.
            layer: A module's name (`fc7` before its ReLU, `fc7_relu` after it) or the 2014
                program's number; None for the last hidden layer before its ReLU.
            pool: `mean` or `max` over the cells that see the image.
            scale: The canvas that each image is fitted into, such as `281x317`, height x width in
                pixels; None for the smallest of the checkpoint's ladder.
            stride: Fine or coarse: how densely the cells lie that are pooled.
            batch_size: Images evaluated together, at least 1: a bound on memory.
            device: Such as `cpu` or `cuda:1`; None for a GPU where there is one.
            dtype: Number format of the weights and activations.
        """
        self.weights = weights
        self.layer = layer
        self.pool = pool
        self.scale = scale
        self.stride = stride
        self.batch_size = batch_size
        self.device = device
        self.dtype = dtype
        self._model: Predictor | None = None

    def fit(self, X: Images | Batch, y: object = None) -> FeatureExtractor:
        """Check the settings and load the model; nothing is learnt.

        Args:
            X: RGB uint8 images; they are not looked at.
            y: Ignored.

        Returns:
            Itself.
        """
        del X, y
        self._open()
        return self

    def transform(self, X: Images | Batch) -> Float32[np.ndarray, "images channels"]:
        """Compute the features of images.

        Args:
            X: RGB uint8 images (height, width, 3), a list of any sizes or one array of equal ones.

        Returns:
            One row per image, in the same order.
        """
        model = self._open()
        config = self._configure(model)
        vectors = [np.zeros((0, len(self.get_feature_names_out())), dtype=np.float32)]
        for start in range(0, len(X), self.batch_size):
            images = [model.prepare(image, config) for image in X[start : start + self.batch_size]]
            for prediction in model.predict(images, config, ("features",)):
                assert prediction.features is not None
                vectors.append(prediction.features.vectors)
        return np.concatenate(vectors)

    def fit_transform(
        self, X: Images | Batch, y: object = None
    ) -> Float32[np.ndarray, "images channels"]:
        """Do `fit`, then `transform`.

        Args:
            X: RGB uint8 images.
            y: Ignored.

        Returns:
            One row per image.
        """
        return self.fit(X, y).transform(X)

    def get_feature_names_out(self, input_features: object = None) -> np.ndarray:
        """Name the columns.

        Args:
            input_features: Ignored.

        Returns:
            Such as `fc8_0`, `fc8_1`, ...
        """
        del input_features
        (member,) = self._open().members
        architecture = member.network.architecture
        module = architecture.find_module(self.layer)
        channels = member.network.count_channels(module)
        return np.array([f"{module}_{channel}" for channel in range(channels)], dtype=object)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """List the settings, as scikit-learn's `clone` and searches expect.

        Args:
            deep: Ignored; no setting is an estimator.

        Returns:
            Names and values.
        """
        del deep
        names = list(inspect.signature(type(self).__init__).parameters)[1:]
        return {name: getattr(self, name) for name in names}

    def set_params(self, **settings: Any) -> FeatureExtractor:  # noqa: ANN401 (scikit-learn's own)
        """Change settings; the model is loaded anew.

        Args:
            **settings: Names and values.

        Returns:
            Itself.

        Raises:
            ValueError: If there is no such setting.
        """
        known = self.get_params()
        for name, value in settings.items():
            if name not in known:
                raise ValueError(f"FeatureExtractor: no setting {name!r}, expected one of {known}")
            setattr(self, name, value)
        self._model = None
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __getstate__(self) -> dict[str, Any]:
        return self.get_params()

    def __setstate__(self, settings: dict[str, Any]) -> None:
        self.__init__(**settings)  # type: ignore[misc]  # how a pickled one is made anew

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self.get_params().items())
        return f"{type(self).__name__}({settings})"

    def _open(self) -> Predictor:
        if self._model is None:
            model = load(self.weights, device=self.device, dtype=self.dtype)
            self._configure(model)
            self._model = model
        return self._model

    def _configure(self, model: Predictor) -> PredictConfig:
        """Say which features are wanted.

        Raises:
            ValueError: If a setting cannot be.
        """
        if len(model.members) > 1:
            raise ValueError("weights: received a committee, which has no common layers; give one")
        member = model.members[0]
        member.network.architecture.find_module(self.layer)
        if self.pool not in {"mean", "max"}:
            raise ValueError(f"pool: received {self.pool!r}, expected mean or max")
        if self.batch_size < 1:
            raise ValueError(f"batch_size: received {self.batch_size}, expected at least 1")
        scale = Canvas.parse(self.scale) if self.scale else member.config.ladder[0]
        features = FeatureConfig(layer=self.layer, pool=self.pool)
        config = PredictConfig(scales=(scale,), stride=self.stride, features=features)
        plan_views(member.config, config)
        return config
