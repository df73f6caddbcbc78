"""The first layers of a decoder: the predictions that the full detector has at that layer."""

import copy
import pickle
import re

import pytest
import torch
from mmdet.models.layers import DinoTransformerDecoder
from mmdet.registry import MODELS

import mmmutual
from mmmutual.layers import Slimmable, check_decoder_layers, get_decoder_layers
from tests.support.query_detectors import BOXES, LAYERS, MASKS, query_batch, query_config, query_detector
from tests.support.small_detectors import stock_detector


def outputs_of_layers(model, kind, images, samples) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """The classes of all layers that run, and their boxes or masks."""
    features = model.extract_feat(images)
    if kind in MASKS:
        classes, masks = model.panoptic_head(features, samples)
        return list(classes), list(masks)
    inputs = model.forward_transformer(features, samples)
    return tuple(map(list, model.bbox_head(**inputs)))


@pytest.mark.parametrize('kind', [*BOXES, *MASKS])
@torch.no_grad()
def test_the_first_layers_predict_what_the_full_detector_predicts_there(kind):
    model = query_detector(kind)
    images, samples = query_batch()
    keys, parameters = list(model.state_dict()), [*model.parameters()]
    all_classes, all_places = outputs_of_layers(model, kind, images, samples)
    before = len(all_classes) - LAYERS  # Mask2Former predicts before the first layer too
    assert mmmutual.decoder_layers(model) == LAYERS
    for number in range(2 if kind == 'ddq' else 1, LAYERS + 1):
        mmmutual.set_decoder_layers(model, number)
        classes, places = outputs_of_layers(model, kind, images, samples)
        assert len(classes) == len(places) == before + number
        for ours, full in zip((*classes, *places), (*all_classes[: len(classes)], *all_places)):
            torch.testing.assert_close(ours, full)  # a product with fewer rows may be rounded otherwise
        assert get_decoder_layers(model) == number and mmmutual.decoder_layers(model) == LAYERS
        assert list(model.state_dict()) == keys and all(a is b for a, b in zip(model.parameters(), parameters))
    assert not torch.allclose(all_places[-1], all_places[-2], rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize('kind', BOXES)
@torch.no_grad()
def test_detections_are_those_of_the_last_layer_that_runs(kind):
    model, (images, samples) = query_detector(kind), query_batch()
    inputs = model.forward_transformer(model.extract_feat(images), samples)
    inputs['hidden_states'] = inputs['hidden_states'][:2]
    if kind == 'dab':  # the head reads the last of the reference points
        inputs['references'] = inputs['references'][:2]
    if kind == 'ddq':
        del model.bbox_head.cache_dict['distinct_query_mask'][1:]
    expected = model.bbox_head.predict(**inputs, batch_data_samples=samples, rescale=False)[0]
    with mmmutual.use_decoder_layers(model, 2):
        found = model.predict(images, samples, rescale=False)[0].pred_instances
    assert len(found) == 5
    assert all(torch.equal(found[name], expected[name]) for name in ('scores', 'bboxes', 'labels'))


@pytest.mark.parametrize('kind', MASKS)
@torch.no_grad()
def test_masks_are_those_of_the_last_layer_that_runs(kind):
    model, (images, samples) = query_detector(kind), query_batch()
    classes, masks = outputs_of_layers(model, kind, images, samples)
    with mmmutual.use_decoder_layers(model, 2):
        found = model.panoptic_head.predict(model.extract_feat(images), samples)
    full = torch.nn.functional.interpolate(masks[2 - LAYERS - 1], size=images.shape[-2:], mode='bilinear')
    assert torch.equal(found[0], classes[2 - LAYERS - 1]) and torch.equal(found[1], full)


@pytest.mark.parametrize('kind', ['dab', 'mask2former'])
def test_all_layers_run_in_training(kind):
    model, (images, samples) = query_detector(kind), query_batch()
    mmmutual.set_decoder_layers(model, 1)
    model.train()
    classes, _ = outputs_of_layers(model, kind, images, samples)
    assert len(classes) == LAYERS + (kind == 'mask2former')
    if kind == 'dab':
        _, references = model.forward_transformer(model.extract_feat(images), samples).values()
        assert len(references) == LAYERS
    model.eval()
    assert len(outputs_of_layers(model, kind, images, samples)[0]) == 1 + (kind == 'mask2former')


@pytest.mark.parametrize('kind', ['detr', 'conditional', 'dab', 'mask2former'])
def test_the_number_belongs_to_a_model_and_is_restored(kind):
    model = query_detector(kind)
    kinds = [type(module) for module in model.modules()]
    with pytest.raises(KeyError), mmmutual.use_decoder_layers(model, 3):
        copied = pickle.loads(pickle.dumps(copy.deepcopy(model)))
        with mmmutual.use_decoder_layers(model, 1), mmmutual.use_decoder_layers(model, None):
            assert (get_decoder_layers(model), get_decoder_layers(copied)) == (1, 3)
        assert get_decoder_layers(model) == 3
        raise KeyError
    assert get_decoder_layers(model) == LAYERS and [type(module) for module in model.modules()] == kinds
    mmmutual.set_decoder_layers(copied, None)
    assert get_decoder_layers(copied) == LAYERS and [type(module) for module in copied.modules()] == kinds
    assert not any('active_layers' in vars(module) for module in copied.modules())


@torch.no_grad()
def test_a_slimmable_detector_leaves_layers_out():
    model, (images, samples) = query_detector('dino'), query_batch()
    mmmutual.set_decoder_layers(model, 2)
    mmmutual.make_slimmable_(model, (1.0, 0.5), scope='detector')
    assert get_decoder_layers(model) == 2
    for layer in model.decoder.layers._modules.values():  # layers that are left out slim too
        assert isinstance(layer.ffn.layers[0][0], Slimmable)
    first, _ = outputs_of_layers(model, 'dino', images, samples)
    mmmutual.set_decoder_layers(model, None)
    full, _ = outputs_of_layers(model, 'dino', images, samples)
    assert len(first) == 2 and all(map(torch.equal, first, full))
    mmmutual.undo_slimmable_(model)
    assert type(model.decoder) is DinoTransformerDecoder


def test_layers_are_initialized_whatever_the_number():
    model = MODELS.build(query_config('detr')).eval()
    mmmutual.set_decoder_layers(model, 1)
    torch.nn.init.zeros_(model.decoder.layers._modules['3'].self_attn.attn.in_proj_weight)
    model.init_weights()
    assert model.decoder.layers._modules['3'].self_attn.attn.in_proj_weight.any()


class OwnDecoder(DinoTransformerDecoder):
    """A decoder with another forward."""

    def forward(self, *args, **kwargs):
        """As mmdet's."""
        return super().forward(*args, **kwargs)


def test_unknown_decoders_are_refused():
    model = query_detector('dino')
    model.decoder.__class__ = OwnDecoder
    text = 'the decoder layers of DINO cannot be left out: OwnDecoder has its own forward'
    with pytest.raises(ValueError, match=text):
        mmmutual.set_decoder_layers(model, 2)
    assert mmmutual.decoder_layers(model) is get_decoder_layers(model) is None

    model = query_detector('dab')
    model.decoder.__class__ = type('Mine', (type(model.decoder),), {})
    with pytest.raises(ValueError, match='left out: Mine is not a class of mmdet'):
        mmmutual.set_decoder_layers(model, 2)

    model = query_detector('detr')
    with pytest.raises(ValueError, match='left out: Sequential, which has the decoder, is not a detector of queries'):
        mmmutual.set_decoder_layers(torch.nn.Sequential(model.decoder), 2)
    model.decoder.return_intermediate = False
    with pytest.raises(ValueError, match='return_intermediate=False, so only the last layer has learnt to predict'):
        mmmutual.set_decoder_layers(model, 2)
    model.decoder.layers = torch.nn.Sequential(*model.decoder.layers)
    with pytest.raises(ValueError, match='its layers are a Sequential, not a ModuleList'):
        mmmutual.set_decoder_layers(model, 2)


def test_a_detector_without_a_decoder():
    model = MODELS.build(stock_detector())
    assert mmmutual.decoder_layers(model) is get_decoder_layers(model) is None
    assert check_decoder_layers(model, None) == (None,)
    with mmmutual.use_decoder_layers(model, None):
        pass
    for number in (2, None):
        with pytest.raises(
            ValueError, match='RetinaNet has no decoder whose layers can be left out: decoder_layers is'
        ):
            mmmutual.set_decoder_layers(model, number)


@pytest.mark.parametrize(
    ('kind', 'number', 'error', 'text'),
    [
        ('detr', 0, ValueError, 'decoder_layers must be from 1 to 4 for this DETR, but got 0'),
        ('detr', 5, ValueError, 'decoder_layers must be from 1 to 4 for this DETR, but got 5'),
        ('ddq', 1, ValueError, 'decoder_layers must be from 2 to 4 for this DDQDETR, but got 1'),
        ('detr', True, TypeError, 'decoder_layers must be a whole number, but got True'),
        ('detr', 2.0, TypeError, 'decoder_layers must be a whole number, but got 2.0'),
    ],
)
def test_a_wrong_number_changes_nothing(kind, number, error, text):
    model = query_detector(kind)
    mmmutual.set_decoder_layers(model, 3)
    with pytest.raises(error, match=re.escape(text)):
        mmmutual.set_decoder_layers(model, number)
    assert get_decoder_layers(model) == 3


def test_numbers_to_evaluate():
    model = query_detector('detr')
    assert check_decoder_layers(model, (2, 4)) == (4, 2) and check_decoder_layers(model, None) == (LAYERS,)
    assert get_decoder_layers(model) == LAYERS
    for numbers in ((), (2, 2)):
        with pytest.raises(ValueError, match='decoder_layers must have at least one number, and each only once'):
            check_decoder_layers(model, numbers)
    for numbers in (3, '64'):
        with pytest.raises(TypeError, match='decoder_layers must be a list of whole numbers such as'):
            check_decoder_layers(model, numbers)
    with pytest.raises(ValueError, match='must be from 1 to 4'):
        check_decoder_layers(model, (4, 7))
